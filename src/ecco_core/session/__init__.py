"""What the user meets: a loaded model, its runs, and the original library's calls."""

"""Values that flow through the framework: arrays and labels, never a model or a tokenizer."""

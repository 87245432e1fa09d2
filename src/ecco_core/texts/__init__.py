"""How token ids read as texts: tokens with labels, words, sentences, spans; without any model."""

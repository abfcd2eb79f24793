"""Notes to instruction, input and target text; model text back to annotations. No torch here."""

"""A trained model and text: entities and modifiers, by constrained copy decoding."""

"""The comparison with a chat model behind an OpenAI-compatible endpoint. No torch here."""

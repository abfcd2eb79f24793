"""Reading notes with an inference engine in place of the model in this process."""

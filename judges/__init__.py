"""How good is this one answer? Judges take a question and an answer and return a `Score`."""

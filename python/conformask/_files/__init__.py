"""Reading and writing score maps, labels and masks. Each format has a module, which imports its library when needed."""

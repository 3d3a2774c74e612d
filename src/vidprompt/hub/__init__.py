"""Publish models on the Hugging Face Hub (`vidprompt push-to-hub`); `vidprompt.load("hf://…")` reads them."""

"""The keys and values that tokens attend to, kept as each halted token left them."""

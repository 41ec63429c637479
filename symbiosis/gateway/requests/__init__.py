"""What a client sends and may send: the body, its policy, its key, its conversation, and checks of the answer."""

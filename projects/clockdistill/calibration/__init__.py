"""How large the losses of a distillation run are before it starts, and how to weigh them."""

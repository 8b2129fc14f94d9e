"""One value against one annotation: what the checks of modules and of trees both use."""

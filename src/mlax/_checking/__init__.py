"""Checking one value against one annotation, for modules and for functions of trees."""

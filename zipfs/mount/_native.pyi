# Nothing to call: see native/module.c.

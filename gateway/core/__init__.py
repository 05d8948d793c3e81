"""Pure rules of call tracking: values in, values out; told the time, the ids and the data; no clock, no I/O."""

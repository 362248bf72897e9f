"""The scaling study: how far does it pay, is it linear, and how sure are we."""

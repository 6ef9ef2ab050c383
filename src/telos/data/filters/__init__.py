"""The open set of filters: each keeps a document or says why it is dropped."""

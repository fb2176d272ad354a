"""Publish users' own models, trained elsewhere: encoder and decoder, or generator, of torch or of ONNX."""

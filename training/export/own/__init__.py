"""Publish models that others trained: an encoder and a decoder, or a generator, of torch or of ONNX."""

"""Measures the speed of the service against ONNX Runtime alone and against a naive server."""

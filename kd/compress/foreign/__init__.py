"""Float ONNX files that are not ours: read, asked, quantised and judged; imports point from `file` to the others."""

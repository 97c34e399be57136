"""Adapters of the ports of rag: the only place that names Chroma, LangChain and the sentence encoder."""

"""Which records are about one document, however their texts are spaced, broken into lines or laid out."""

from lit_longpo.shared_texts.documents import DocumentKeys
from lit_longpo.shared_texts.keys import context_keys, document_keys, message_keys, text_key
from lit_longpo.shared_texts.layouts import about_documents_of

__all__ = ["DocumentKeys", "about_documents_of", "context_keys", "document_keys", "message_keys", "text_key"]

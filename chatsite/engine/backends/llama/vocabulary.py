"""Tokens and text of a llama.cpp model. Thread-safe: it only reads the loaded model."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import llama_cpp

lib: Any = llama_cpp.llama_cpp

_NEVER_TEXT = lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN


class LlamaVocabulary:
    """The `Vocabulary` of a llama.cpp model."""

    def __init__(self, model: int) -> None:
        self._vocab = self.pointer = vocab = lib.llama_model_get_vocab(model)
        self.size: int = lib.llama_vocab_n_tokens(vocab)
        self.bos = self._token(lib.llama_vocab_bos(vocab))
        eos = self._token(lib.llama_vocab_eos(vocab))
        self.bos_text = self._text(self.bos)
        self.eos_text = self._text(eos)
        self.add_bos = bool(lib.llama_vocab_get_add_bos(vocab))
        ends: set[int] = set()
        controls: dict[str, int] = {}
        attributes, is_end = lib.llama_vocab_get_attr, lib.llama_vocab_is_eog
        for token in range(self.size):
            end = is_end(vocab, token)
            if end:
                ends.add(token)
            never_text = end or attributes(vocab, token) & _NEVER_TEXT
            if never_text and (text := self._text(token)):
                controls[text] = token
        self.ends = frozenset(ends)
        self.controls: Mapping[str, int] = controls
        self._pieces: dict[int, bytes] = {}
        bare, whole = (self._tokenize("a", special=False, enclose=e) for e in (False, True))
        # SentencePiece, BPE and WordPiece differ in the tokens around a text, and where they are.
        before = next((at for at in range(len(whole)) if whole[at:][: len(bare)] == bare), 0)
        self._around = whole[:before], whole[before + len(bare) :]
        separated = lib.llama_vocab_get_add_eos(vocab) and lib.llama_vocab_get_add_sep(vocab)
        separator = lib.llama_vocab_sep(vocab)
        self._between = [separator] if separated and separator >= 0 else []
        fills = (lib.llama_vocab_fim_pre, lib.llama_vocab_fim_suf, lib.llama_vocab_fim_mid)
        infill = [int(fill(vocab)) for fill in fills]
        self.infill = (infill[0], infill[1], infill[2]) if min(infill) >= 0 else None

    def reveal(self, texts: Sequence[str]) -> None:
        for text in texts:
            if text in self.controls:
                self._pieces[self.controls[text]] = text.encode()

    def enclosed(self, tokens: Sequence[int]) -> list[int]:
        return [*self._around[0], *tokens, *self._around[1]]

    def pair(self, query: Sequence[int], document: Sequence[int]) -> list[int]:
        # [CLS] query [SEP] document [SEP] (BERT), <s> query </s></s> document </s> (XLM-RoBERTa)
        return [*self.enclosed(query), *self._between, *document, *self._around[1]]

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        return self._tokenize(text, special=special, enclose=False)

    def _tokenize(self, text: str, *, special: bool, enclose: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        # A token is at least one byte, except for a space that some vocabularies prepend. Powers of
        # two, because ctypes creates a new type for each length.
        room = 1 << (len(data) + 8).bit_length()
        while True:
            tokens = (lib.llama_token * room)()
            count = lib.llama_tokenize(self._vocab, data, len(data), tokens, room, enclose, special)
            if count >= 0:
                return tokens[:count]  # type: ignore[no-any-return]
            room = 1 << (-count).bit_length()

    def piece(self, token: int) -> bytes:
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._read_piece(token)
        return known

    def _read_piece(self, token: int) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = lib.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def _token(self, token: int) -> int | None:
        return token if token >= 0 else None

    def _text(self, token: int | None) -> str:
        if token is None:
            return ""
        text: bytes | None = lib.llama_vocab_get_text(self._vocab, token)
        return (text or b"").decode("utf-8", "replace")

"""Models that know nothing, held to the grammar, with several kinds of tokenizers: what they write is always of it."""

from __future__ import annotations

import pytest
import torch
from grammar_by_hand import is_answer, is_report
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from expert_models.finding import Box, Region
from medmllm.constrain import Constrained, Held, Vocabulary
from medmllm.grammar import Grammar
from medmllm.parse import parse, parse_reply
from medmllm.tokens import make_tokenizer
from medmllm.views import Frame

IDS = ("f1", "f2", "c1")
EXPERTS = {"CXR": [""], "VISTA3D": ["lung", "hepatic tumor"]}
FRAMES = (Frame("1.2", "1.2.3", 0, (300, 200)),)
REGIONS = (Region("1.2", Box((0, 0, 0), (1, 9, 9)), "1.2.3"), Region("1.2", Box((0, 5, 5), (1, 9, 9)), "1.2.3"))
REPORT = Grammar("report", IDS, regions=2)
ANSWER = Grammar("answer", experts=tuple((name, tuple(arguments)) for name, arguments in EXPERTS.items()), regions=2)
LINES = [
    "findings | The <ref>heart</ref><box>[[100,33,450,200]]</box> is enlarged, 12 mm ≥ 5 µm. | f1",
    "findings | There is a right pleural effusion <SEG> as in <region 1>. | f2 c1",
    "impression | Überraschung: cardiomegaly – larger. | f1 f2 c1",
    "<CXR()><VISTA3D(hepatic tumor)>",
]
CHARACTERS = sorted(set("".join(LINES)) | set("0123456789\n|-[]<>/(),"))


def bytes_of() -> PreTrainedTokenizerFast:
    """Byte-level BPE as of GPT-2, without any special token but the end."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(LINES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>", pad_token="<|end|>")


def pieces_of(texts: list[str]) -> PreTrainedTokenizerFast:
    """Unigram as of sentencepiece: words start with the mark of a space, also the first one."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", unk_token="<unk>", pad_token="</s>")


def words_of() -> PreTrainedTokenizerFast:
    """WordPiece as of BERT: punctuation stands alone, so that it cannot write a box without spaces."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]", "[SEP]"], show_progress=False)
    made.train_from_iterator(LINES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="[SEP]", unk_token="[UNK]")


TOKENIZERS = {
    "ours": make_tokenizer(LINES * 3, size=400),
    "byte-level BPE": bytes_of(),
    "Unigram": pieces_of([*LINES, *CHARACTERS]),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return TOKENIZERS[request.param]


@pytest.fixture(scope="module")
def vocabulary(tokenizer: PreTrainedTokenizerFast) -> Vocabulary:
    return Vocabulary(tokenizer)


class Babbler:
    """A model that says anything. eagerness: how much it favours what ends a sentence, a line and a text."""

    def __init__(self, vocabulary: Vocabulary, seed: int, eagerness: float) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self._size = len(vocabulary)
        ending = [at for at, each in enumerate(vocabulary.tokens) if each in (b" ", b"|", b" |", b" | ", b"\n")]
        self._bias = torch.zeros(self._size)
        self._bias[[*ending, vocabulary.end]] = eagerness

    def __call__(self, input_ids: torch.Tensor) -> torch.Tensor:
        return 2 * torch.randn((input_ids.shape[0], self._size), generator=self._random) + self._bias

    def generate(self, processor: Constrained, rows: int, most: int, prompt: int = 4) -> torch.Tensor:
        """Greedy; every row ends or reaches the cap. Padding after the end is the end. Returns (rows, written)."""
        ids = torch.zeros((rows, prompt), dtype=torch.long)
        for _ in range(most):
            scores = processor(ids, self(ids))
            assert scores.isfinite().any(dim=1).all()
            ids = torch.cat([ids, scores.argmax(dim=1, keepdim=True)], dim=1)
        return ids[:, prompt:]


def text_of(written: torch.Tensor, tokenizer: PreTrainedTokenizerFast) -> tuple[str, bool]:
    """The row's text up to its end, and whether it has one."""
    tokens = written.tolist()
    has_end = tokenizer.eos_token_id in tokens
    kept = tokens[: tokens.index(tokenizer.eos_token_id)] if has_end else tokens
    return str(tokenizer.decode(kept, skip_special_tokens=False)), has_end


@pytest.mark.parametrize("eagerness", [0.0, 3.0, 9.0])
def test_whatever_a_model_says_is_a_report(
    tokenizer: PreTrainedTokenizerFast, vocabulary: Vocabulary, eagerness: float
) -> None:
    complete = 0
    for seed in range(4):
        written = Babbler(vocabulary, seed, eagerness).generate(Constrained(vocabulary, REPORT), rows=3, most=150)
        for row in written:
            text, has_end = text_of(row, tokenizer)
            if has_end:
                complete += 1
                assert is_report(text, IDS, regions=2), text
                assert parse(text, IDS, FRAMES, REGIONS).problems == ()
    assert complete > 0 or eagerness == 0.0  # without any, it babbles until the cap


def test_whatever_a_model_says_is_an_answer(tokenizer: PreTrainedTokenizerFast, vocabulary: Vocabulary) -> None:
    seen = set()
    for seed in range(6):
        written = Babbler(vocabulary, seed, eagerness=3.0).generate(Constrained(vocabulary, ANSWER), rows=4, most=40)
        for row in written:
            text, has_end = text_of(row, tokenizer)
            if has_end:
                assert is_answer(text, EXPERTS, regions=2), text
                reply = parse_reply(text, EXPERTS, FRAMES, REGIONS)
                assert reply.problems == ()
                seen.add(bool(reply.calls))
    assert False in seen


@pytest.mark.parametrize("eagerness", [0.0, 3.0, 9.0])
def test_a_row_that_goes_on_in_place_is_held_to_the_same(
    tokenizer: PreTrainedTokenizerFast, vocabulary: Vocabulary, eagerness: float
) -> None:
    """Held beside Constrained on the same scores; of two rows of one grammar, each goes its own way."""
    grammars, ended = (REPORT, ANSWER, ANSWER), set()
    for seed in range(3):
        babbler, held = Babbler(vocabulary, seed, eagerness), Held(vocabulary, *grammars)
        processor, ids = Constrained(vocabulary, *grammars), torch.zeros((3, 2), dtype=torch.long)
        for _ in range(100):
            scores = babbler(ids)
            expected = processor(ids, scores).argmax(dim=1)
            assert held.choose(scores) == expected.tolist()
            ids = torch.cat([ids, expected[:, None]], dim=1)
        ended |= {row for row in range(3) if vocabulary.end in ids[row].tolist()}
        assert not torch.equal(ids[1], ids[2])
    assert ended or eagerness == 0.0


@pytest.mark.parametrize("grammar", [REPORT, ANSWER])
def test_a_token_is_taken_exactly_where_it_is_allowed(vocabulary: Vocabulary, grammar: Grammar) -> None:
    babbler, ids = Babbler(vocabulary, 1, 3.0), torch.zeros((1, 1), dtype=torch.long)
    state = vocabulary.matcher(grammar)
    for _ in range(25):
        allowed = vocabulary.allowed(state)
        copies = [state.deep_copy() for _ in range(len(vocabulary))]
        taken = [vocabulary.takes(copy, token) for token, copy in enumerate(copies)]
        assert taken == allowed.tolist()
        stayed = taken.index(False)
        assert vocabulary.allowed(copies[stayed]).tolist() == taken  # what is refused changes nothing
        best = int(babbler(ids)[0].masked_fill(~torch.from_numpy(allowed), float("-inf")).argmax())
        if best == vocabulary.end:
            state = vocabulary.matcher(grammar)
        else:
            assert vocabulary.takes(state, best)


def test_a_token_that_writes_nothing_or_that_the_tokenizer_lacks_is_not_taken() -> None:
    tokenizer = bytes_of()
    tokenizer.add_special_tokens({"unk_token": "[UNK]"})
    vocabulary = Vocabulary(tokenizer)
    size = len(vocabulary)
    assert vocabulary.tokens[size - 1] == b""
    held = Held(vocabulary, ANSWER)
    number = vocabulary.tokens.index(b"a")
    scores = torch.zeros(1, size + 2)
    scores[0, number] = 1.0
    for token in (size - 1, size, size + 1):
        for _ in range(2):
            shown = scores.clone()
            shown[0, token] = 2.0
            assert held.choose(shown) == [number]


def test_every_example_can_be_written_and_ends_where_it_is_complete(
    tokenizer: PreTrainedTokenizerFast, vocabulary: Vocabulary
) -> None:
    for text, grammar in (("\n".join(LINES[:3]), REPORT), (LINES[3], ANSWER), ("no, 12 mm", ANSWER)):
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        processor = Constrained(vocabulary, grammar)
        prompt, written = [0, 0], ""
        for at, token in enumerate([*tokens, vocabulary.end]):
            scores = processor(torch.tensor([prompt + tokens[:at]]), torch.zeros(1, len(vocabulary)))[0]
            assert scores[token] == 0.0, (written, tokenizer.decode([token]))
            written = str(tokenizer.decode(tokens[:at]))
            is_complete = is_report(written, IDS, 2) if grammar is REPORT else is_answer(written, EXPERTS, 2)
            assert (scores[vocabulary.end] == 0.0) == is_complete, written


def test_markers_and_padding_cannot_be_written() -> None:
    tokenizer = TOKENIZERS["ours"]
    vocabulary = Vocabulary(tokenizer)
    processor = Constrained(vocabulary, ANSWER)
    start = tokenizer("A ", add_special_tokens=False)["input_ids"]
    processor(torch.tensor([[0]]), torch.zeros(1, len(vocabulary)))
    for at in range(1, len(start) + 1):
        scores = processor(torch.tensor([[0, *start[:at]]]), torch.zeros(1, len(vocabulary)))[0]
    allowed = {each for each in tokenizer.all_special_tokens if scores[tokenizer.convert_tokens_to_ids(each)] == 0.0}
    assert allowed == {"<SEG>", "<ref>", "<box>", "</s>"}


@pytest.mark.parametrize("as_embeddings", [False, True])
@pytest.mark.parametrize("how", [{"num_beams": 3}, {"do_sample": True, "num_return_sequences": 3}])
def test_a_model_of_transformers_with_beams_and_with_several_sequences(how: dict, as_embeddings: bool) -> None:
    tokenizer = TOKENIZERS["ours"]
    vocabulary = Vocabulary(tokenizer)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary) + 13, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, eos_token_id=vocabulary.end, pad_token_id=tokenizer.pad_token_id, bos_token_id=1,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    given = tokenizer(
        ["film", "a longer prompt"], return_tensors="pt", padding=True, padding_side="left", return_token_type_ids=False
    )
    prompt = given["input_ids"].shape[1]
    if as_embeddings:  # as medmllm/model.py does: no prompt is shown, and only what is new comes back
        given = {"inputs_embeds": model.get_input_embeddings()(given["input_ids"])}
        prompt = 0
    processor = Constrained(vocabulary, ANSWER)
    written = model.generate(**given, max_new_tokens=40, logits_processor=[processor], **how)[:, prompt:]
    texts = [text_of(row, tokenizer) for row in written]
    for text, has_end in texts:
        assert text
        assert is_answer(text, EXPERTS, 2) or not has_end


def test_a_row_taken_from_another_beam_goes_on_where_that_one_stood() -> None:
    vocabulary = Vocabulary(TOKENIZERS["ours"])
    number = {each: at for at, each in enumerate(vocabulary.tokens)}
    processor = Constrained(vocabulary, Grammar("answer", experts=(("A", ("",)), ("B", ("",)))))
    blank = torch.zeros(2, len(vocabulary))
    prompt = [0, 0]
    processor(torch.tensor([prompt] * 2), blank)
    processor(torch.tensor([[*prompt, number[b"<"]], [*prompt, number[b"x"]]]), blank)
    scores = processor(
        torch.tensor([[*prompt, number[b"x"], number[b"y"]], [*prompt, number[b"<"], number[b"B"]]]), blank
    )
    assert scores[0, vocabulary.end] == 0.0
    allowed = {vocabulary.tokens[at] for at in scores[1].isfinite().nonzero().flatten().tolist()}
    assert b"(" in allowed
    assert allowed <= {b"(", b"()", b"()>", b"()><"}


def test_every_prompt_has_its_own_grammar_whatever_its_beams() -> None:
    vocabulary = Vocabulary(TOKENIZERS["ours"])
    number = {each: at for at, each in enumerate(vocabulary.tokens)}
    names = ("A", "B")
    processor = Constrained(vocabulary, *(Grammar("answer", experts=((each, ("",)),)) for each in names))
    blank = torch.zeros(4, len(vocabulary))  # two prompts, two beams each
    processor(torch.zeros((4, 3), dtype=torch.long), blank)
    scores = processor(torch.tensor([[0, 0, 0, number[b"<"]]] * 4), blank)
    for row, own, other in ((0, b"A", b"B"), (1, b"A", b"B"), (2, b"B", b"A"), (3, b"B", b"A")):
        assert scores[row, number[own]] == 0.0
        assert scores[row, number[other]] == float("-inf")
    with pytest.raises(ValueError, match="3 rows cannot be shared among 2 grammars"):
        processor(torch.zeros((3, 3), dtype=torch.long), blank[:3])


def test_it_serves_one_generation() -> None:
    vocabulary = Vocabulary(TOKENIZERS["ours"])
    processor = Constrained(vocabulary, ANSWER)
    blank = torch.zeros(1, len(vocabulary))
    processor(torch.tensor([[0, 0]]), blank)
    with pytest.raises(ValueError, match="make one processor for each"):
        processor(torch.tensor([[0, 0, 5, 6, 7]]), blank)


@pytest.mark.parametrize(
    ("tokenizer", "said"),
    [
        (words_of(), "no token that writes '"),
        (
            pieces_of([each.replace("]", "") for each in [*LINES, *CHARACTERS] if each != "]"]),
            "no token that writes ']' alone",
        ),
    ],
)
def test_a_tokenizer_that_cannot_write_the_grammar_is_refused(tokenizer: PreTrainedTokenizerFast, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Constrained(Vocabulary(tokenizer), REPORT)


def test_a_tokenizer_that_cannot_end_is_refused() -> None:
    made = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(ValueError, match="no end token"):
        Vocabulary(PreTrainedTokenizerFast(tokenizer_object=made))


def test_a_token_of_a_part_of_a_character_needs_every_byte_that_ends_one() -> None:
    vocabulary = {"</s>": 0, "Ã": 1, **{each: at for at, each in enumerate(sorted(set("".join(CHARACTERS))), 2)}}
    alphabet = {" ": "Ġ", "\n": "Ċ"}
    ascii_only = {alphabet.get(each, each): at for each, at in vocabulary.items() if each == "Ã" or each.isascii()}
    ascii_only = {each: at for at, each in enumerate(ascii_only)}
    made = Tokenizer(models.BPE(ascii_only, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens([AddedToken("</s>", special=True)])
    with pytest.raises(ValueError, match="every byte that ends one"):
        Vocabulary(PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")).matcher(ANSWER)


def test_a_model_smaller_than_its_tokenizer_is_refused() -> None:
    vocabulary = Vocabulary(TOKENIZERS["ours"])
    with pytest.raises(ValueError, match="the model knows 7 tokens"):
        Constrained(vocabulary, ANSWER)(torch.zeros((1, 1), dtype=torch.long), torch.zeros(1, 7))
    with pytest.raises(ValueError, match="the model knows 7 tokens"):
        Held(vocabulary, ANSWER).choose(torch.zeros(1, 7))

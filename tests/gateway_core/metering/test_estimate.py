"""Texts and their tokens in o200k_base: OpenAI, "Hello GPT-4o", language tokenization, and the cookbook on tiktoken."""

from typing import Any

import pytest
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import (
    ROLE_USER,
    ChatMessage,
    ContentPart,
    ContentParts,
    ImageUrl,
    InputAudio,
    Role,
    ToolCall,
)

from gateway_core.chat import Chat, read
from gateway_core.metering.estimate import counted, input_tokens, message_tokens, output_tokens, text_tokens

# ruff: noqa: RUF001 - texts as they were published
TOLD = {
    "hi": (31, "नमस्ते, मेरा नाम जीपीटी-4o है। मैं एक नए प्रकार का भाषा मॉडल हूँ। आपसे मिलकर अच्छा लगा!"),
    "ur": (33, "ہیلو، میرا نام جی پی ٹی-4o ہے۔ میں ایک نئے قسم کا زبان ماڈل ہوں، آپ سے مل کر اچھا لگا!"),
    "ar": (26, "مرحبًا، اسمي جي بي تي-4o. أنا نوع جديد من نموذج اللغة، سررت بلقائك!"),
    "fa": (32, "سلام، اسم من جی پی تی-۴او است. من یک نوع جدیدی از مدل زبانی هستم، از ملاقات شما خوشبختم!"),
    "ru": (23, "Привет, меня зовут GPT-4o. Я — новая языковая модель, приятно познакомиться!"),
    "ko": (27, "안녕하세요, 제 이름은 GPT-4o입니다. 저는 새로운 유형의 언어 모델입니다, 만나서 반갑습니다!"),
    "vi": (30, "Xin chào, tên tôi là GPT-4o. Tôi là một loại mô hình ngôn ngữ mới, rất vui được gặp bạn!"),
    "zh": (24, "你好，我的名字是GPT-4o。我是一种新型的语言模型，很高兴见到你!"),
    "ja": (26, "こんにちわ、私の名前はGPT−４oです。私は新しいタイプの言語モデルです、初めまして"),
    "tr": (30, "Merhaba, benim adım GPT-4o. Ben yeni bir dil modeli türüyüm, tanıştığımıza memnun oldum!"),
    "it": (28, "Ciao, mi chiamo GPT-4o. Sono un nuovo tipo di modello linguistico, è un piacere conoscerti!"),
    "de": (29, "Hallo, mein Name is GPT-4o. Ich bin ein neues KI-Sprachmodell. Es ist schön, dich kennenzulernen."),
    "es": (26, "Hola, me llamo GPT-4o. Soy un nuevo tipo de modelo de lenguaje, ¡es un placer conocerte!"),
    "pt": (27, "Olá, meu nome é GPT-4o. Sou um novo tipo de modelo de linguagem, é um prazer conhecê-lo!"),
    "fr": (
        28,
        "Bonjour, je m'appelle GPT-4o. Je suis un nouveau type de modèle de langage, c'est un plaisir de vous rencontrer!",
    ),
    "en": (24, "Hello, my name is GPT-4o. I'm a new type of language model, it's nice to meet you!"),
}


@pytest.mark.parametrize("language", TOLD)
def test_an_estimate_is_within_a_quarter_of_what_the_tokenizer_counts(language: str) -> None:
    tokens, text = TOLD[language]
    assert abs(text_tokens(text) - tokens) <= 0.25 * tokens


def test_estimates_are_within_a_tenth_on_the_average() -> None:
    errors = [abs(text_tokens(text) - tokens) / tokens for tokens, text in TOLD.values()]
    assert sum(errors) / len(errors) <= 0.08
    assert abs(sum(text_tokens(text) for _, text in TOLD.values()) / sum(n for n, _ in TOLD.values()) - 1) <= 0.03


def test_a_long_text_is_sampled_and_counted_as_whole() -> None:
    for _, text in TOLD.values():
        short = text_tokens(text * 20)
        assert abs(text_tokens(text * 2000) - 100 * short) <= 0.05 * 100 * short


def test_an_empty_text_has_no_tokens() -> None:
    assert text_tokens("") == 0
    assert input_tokens(read(ChatCompletionSpec())) == 3


def test_a_message_costs_its_frame_and_its_text() -> None:
    spec = ChatCompletionSpec(messages=[ChatMessage(role=Role.ROLE_USER, text="hello")])
    assert input_tokens(read(spec)) == 3 + 3 + 1


@pytest.mark.parametrize("text", ["", "hello", "नमस्ते", "word " * 1000, "x" * 4097, "\n" * 40])
def test_a_message_counts_the_same_however_often_it_was_seen(text: str) -> None:
    chat = read(ChatCompletionSpec(messages=[ChatMessage(role=Role.ROLE_USER, text=text)]))
    for _ in range(3):
        assert input_tokens(chat) == 3 + 3 + counted(text) == 3 + message_tokens(chat.spec.messages[0])


def test_images_count_flat_and_sound_by_its_size() -> None:
    def tokens(part: ContentPart) -> int:
        message = ChatMessage(role=Role.ROLE_USER, parts=ContentParts(parts=[part]))
        return input_tokens(read(ChatCompletionSpec(messages=[message]))) - 6

    assert tokens(ContentPart(image_url=ImageUrl(url="data:" + "x" * 100_000))) == 765
    assert tokens(ContentPart(image_url=ImageUrl(url="https://a.example/b.png", detail="low"))) == 85
    assert tokens(ContentPart(input_audio=InputAudio(data="x" * 20_000, format="wav"))) == 11
    assert tokens(ContentPart(text="hello")) == 1


def test_tools_count_with_their_schemas() -> None:
    spec = ChatCompletionSpec(messages=[ChatMessage(role=Role.ROLE_USER, text="hello")])
    before = input_tokens(read(spec))
    function = spec.tools.add().function
    function.name = "weather"
    function.parameters_json = '{"type": "object", "properties": {"city": {"type": "string"}}}'
    assert input_tokens(read(spec)) > before + 20


def test_an_answer_has_at_most_what_the_request_allows() -> None:
    assert output_tokens(read(ChatCompletionSpec()), 500) == 500
    assert output_tokens(read(ChatCompletionSpec(max_completion_tokens=20, n=3)), 500) == 60
    assert output_tokens(read(ChatCompletionSpec(max_tokens=9)), 500) == 9


@pytest.mark.parametrize("named", [-1, 0])
def test_what_is_below_one_names_no_limit_of_the_answer(named: int) -> None:
    assert output_tokens(read(ChatCompletionSpec(max_tokens=named)), 500) == 500
    assert output_tokens(read(ChatCompletionSpec(max_completion_tokens=named, n=2)), 500) == 1000
    assert output_tokens(read(ChatCompletionSpec(max_completion_tokens=named, max_tokens=9)), 500) == 9


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 129, 16_382, 16_383, 16_384, 20_000])
@pytest.mark.parametrize("more", [{"name": "n"}, {"refusal": "no"}, {"reasoning": "r"}, {"tool_calls": [ToolCall()]}])
@pytest.mark.parametrize("role", [0, ROLE_USER])
def test_whatever_a_message_says_beside_its_text_counts(length: int, more: dict[str, Any], role: Any) -> None:
    plain = ChatMessage(role=role, text="a" * length)
    assert message_tokens(ChatMessage(role=role, text="a" * length, **more)) > message_tokens(plain)


def test_a_long_text_is_counted_in_a_bounded_time() -> None:
    class Long(str):
        __slots__ = ()

        def __hash__(self) -> int:
            raise AssertionError("to hash a text takes as long as it is")

    text = Long("hello " * 1000)
    assert input_tokens(Chat({}, [(ROLE_USER, text)], None)) > counted(text)

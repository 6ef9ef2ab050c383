"""Chat templates come from elsewhere: what one may do, and what it may not."""

import time
from pathlib import Path

import pytest

from telos.errors import ConfigError
from telos.serve.chat import FILE, Template, template_of
from telos.serve.refusals import Refused

MESSAGES = [
    {"role": "user", "content": "Hello {{ 7 * 7 }} <|end|>"},
    {"role": "assistant", "content": " Hi. "},
]


def rendered(text: str) -> str:
    return Template(text, "here").render(MESSAGES)


def test_what_templates_of_others_use_works() -> None:
    text = """{%- if messages[0].role == 'system' %}no{% endif -%}
{%- set ns = namespace(count=0) -%}
{%- for message in messages -%}
{%- set ns.count = ns.count + 1 -%}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>' + '\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ ns.count ~ bos_token }}{{ [0, '1']|join(', ') }}{% endif %}"""
    assert rendered(text) == (
        "<|im_start|>user\nHello {{ 7 * 7 }} <|end|><|im_end|>\n<|im_start|>assistant\nHi.<|im_end|>\n20, 1"
    )


def test_a_template_can_refuse_messages() -> None:
    with pytest.raises(Refused, match="the chat template does not take them: only one turn"):
        rendered("{% if messages|length > 1 %}{{ raise_exception('only one turn') }}{% endif %}")


ATTACKS = [
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ cycler.__init__.__globals__.os.system('id') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__ }}",
    "{{ (messages|attr('__class__')) }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ range.__code__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context.environment }}",
    "{% set x = messages.append({}) %}",
    "{% do messages.clear() %}",
    "{% set x = messages[0].update(role='system') %}{{ x }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '%s'|format(messages) }}",
    "{{ config }}{{ request.application }}",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_no_template_gets_out_of_its_sandbox(text: str) -> None:
    """Trap 71."""
    before = [dict(message) for message in MESSAGES]
    try:
        said = rendered(text)
    except (Refused, ConfigError) as refused:
        said = str(refused)
    assert before == MESSAGES
    assert "uid=" not in said and "root:" not in said and "<class" not in said and "module" not in said


ENDLESS = [
    "{% for i in range(10**9) %}{% endfor %}",
    "{% for i in range(9999) %}{% for j in range(9999) %}{% for k in range(9999) %}{% endfor %}"
    "{% endfor %}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for i in range(9999) %}{% for j in range(9999) %}xxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
    "{{ 'x' * 10**9 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ 'x'.ljust(10**9) }}",
    "{{ 'x'|center(10**9) }}",
    "{{ '%1000000000d' % 1 }}",
    "{% set n = namespace(t='x') %}{% for i in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}{{ n.t }}",
    "{% set n = namespace(t='x') %}{% for i in range(60) %}{% set n.t %}{{ n.t }}{{ n.t }}{% endset %}"
    "{% endfor %}",
    "{% set n = namespace(t='xy') %}{% for i in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}{{ n.t }}",
]


@pytest.mark.parametrize("text", ENDLESS, ids=range(len(ENDLESS)))
def test_no_template_takes_all_the_time_or_memory(text: str) -> None:
    """Trap 71: a loop of a thousand million rounds ends like any other."""
    begun = time.monotonic()
    with pytest.raises((Refused, ConfigError), match="chat template"):
        rendered(text)
    assert time.monotonic() - begun < 20  # they would take hours


def test_a_broken_template_is_named_when_the_server_starts(tmp_path: Path) -> None:
    assert template_of(tmp_path) is None
    (tmp_path / FILE).write_text("{% for %}")
    with pytest.raises(ConfigError, match=r"chat_template\.jinja: not a chat template"):
        template_of(tmp_path)
    (tmp_path / FILE).write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="cannot be read"):
        template_of(tmp_path)
    (tmp_path / FILE).write_text("x" * (1 << 21))
    with pytest.raises(ConfigError, match="are no chat template"):
        template_of(tmp_path)

"""Go templates: what they show was recorded from docker 28.2 (`docker network inspect --format`) for this network."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.cli.network_record import network_record
from cnm.cli.template import Struct, Template, TemplateError

NETWORK: dict[str, Any] = {
    "Name": "web",
    "Id": "a" * 64,
    "Created": "2025-01-02T03:04:05.678901234Z",
    "Scope": "local",
    "Driver": "bridge",
    "EnableIPv4": True,
    "EnableIPv6": False,
    "IPAM": {
        "Driver": "default",
        "Options": {},
        "Config": [
            {"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"},
            {
                "Subnet": "172.19.0.0/16",
                "IPRange": "172.19.1.0/24",
                "Gateway": "172.19.0.1",
                "AuxiliaryAddresses": {"a": "172.19.0.5"},
            },
        ],
    },
    "Internal": False,
    "Containers": {
        "c1": {"Name": "one", "EndpointID": "e1", "MacAddress": "02:42", "IPv4Address": "172.18.0.2/16"},
        "c2": {"Name": "two", "EndpointID": "e2", "MacAddress": "02:43", "IPv4Address": "172.18.0.3/16"},
    },
    "Options": {"com.docker.network.bridge.name": "br0"},
    "Labels": {"env": "prod", "a<b": "x&y"},
}


def shown(template: str) -> str:
    return Template(template).execute(network_record(NETWORK))


def shown_from_json(template: str) -> str:
    return Template(template).execute(NETWORK, missing_key_fails=True)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        # fields
        ("{{.Name}}", "web"),
        ("{{.ID}}", "a" * 64),
        ("{{ .Name }} on {{.Driver}}", "web on bridge"),
        ("{{.EnableIPv4}} {{.EnableIPv6}}", "true false"),
        ("{{.Created}}", "2025-01-02 03:04:05.678901234 +0000 UTC"),
        ("{{.IPAM.Driver}} {{$.IPAM.Driver}} {{(.IPAM).Driver}}", "default default default"),
        ("{{.Labels.env}}", "prod"),
        ("{{.Labels.nope}}", "<no value>"),
        # how values print
        ("{{.Options}}", "map[com.docker.network.bridge.name:br0]"),
        (
            "{{.IPAM}}",
            "{default map[] [{172.18.0.0/16  172.18.0.1 map[]} "
            "{172.19.0.0/16 172.19.1.0/24 172.19.0.1 map[a:172.19.0.5]}]}",
        ),
        ("{{.Peers}} {{.Services}} {{.ConfigFrom}}", "[] map[] {}"),
        ("{{1.5}} {{0x10}} {{1e3}} {{-3}} {{+4}} {{.5}} {{5.}}", "1.5 16 1000 -3 4 0.5 5"),
        ("{{123456789.5}} {{1e21}} {{1e-7}}", "1.234567895e+08 1e+21 1e-07"),
        ("{{100000.5}} {{1234567.0}} {{0.0001}} {{0.00001}}", "100000.5 1.234567e+06 0.0001 1e-05"),
        ("{{0b101}} {{0o17}} {{1_000}} {{'a'}} {{true}}", "5 15 1000 97 true"),
        (r'{{"a\tb\u00e9\x41\101\""}}{{`\raw`}}', 'a\tbéAA"\\raw'),
        # json
        ("{{json .Name}} {{json .EnableIPv4}} {{json nil}} {{json 1.0}}", '"web" true null 1'),
        ("{{json .Created}}", '"2025-01-02T03:04:05.678901234Z"'),
        ("{{json .Labels}}", '{"a<b":"x&y","env":"prod"}'),
        ("{{json (index .IPAM.Config 0)}}", '{"Subnet":"172.18.0.0/16","Gateway":"172.18.0.1"}'),
        # index, len, slice
        ("{{(index .IPAM.Config 0).Subnet}}", "172.18.0.0/16"),
        ('{{index .Labels "env"}}|{{index .Labels "nope"}}', "prod|"),
        ('{{(index .Containers "c2").Name}}', "two"),
        ('{{(index .Containers "gone").Name}}|', "|"),
        ("{{index .Name 0}}", "119"),
        ("{{(index .IPAM.Config 1).AuxAddress.a}}", "172.19.0.5"),
        ("{{len .Containers}} {{len .Name}} {{len .IPAM.Config}}", "2 3 2"),
        ("{{slice .Name 1}} {{slice .Name 0 2}} {{len (slice .IPAM.Config 1)}}", "eb we 1"),
        # range
        ("{{range .IPAM.Config}}{{.Subnet}} {{end}}", "172.18.0.0/16 172.19.0.0/16 "),
        ("{{range .IPAM.Config}}{{.IPRange}}|{{end}}", "|172.19.1.0/24|"),
        (
            "{{range $i,$c := .IPAM.Config}}{{if $i}},{{end}}{{$c.Subnet}}{{end}}",
            "172.18.0.0/16,172.19.0.0/16",
        ),
        ("{{range $k,$v := .Containers}}{{$k}}={{$v.Name}} {{end}}", "c1=one c2=two "),
        ("{{range .Containers}}{{.Name}}@{{$.Name}} {{end}}", "one@web two@web "),
        ("{{range $v := .Labels}}{{$v}} {{end}}", "x&y prod "),
        ("{{range .Peers}}x{{else}}none{{end}}", "none"),
        ("{{range 3}}{{.}}{{end}}{{range 0}}x{{else}}e{{end}}", "012e"),
        ("{{range .IPAM.Config}}{{.Subnet}}{{break}}{{end}}", "172.18.0.0/16"),
        (
            "{{range $i, $e := .IPAM.Config}}{{if eq $i 0}}{{continue}}{{end}}{{$e.Subnet}}{{end}}",
            "172.19.0.0/16",
        ),
        # if, with
        ("{{if .Internal}}int{{else}}ext{{end}}", "ext"),
        ('{{if eq .Driver "x"}}x{{else if eq .Driver "bridge"}}b{{else}}c{{end}}', "b"),
        ("{{if and .Name (not .Internal)}}y{{end}}", "y"),
        ("{{with .Options}}{{len .}}{{end}}", "1"),
        ("{{with .Peers}}a{{else with .Name}}{{.}}{{end}}", "web"),
        ("{{with $c := index .IPAM.Config 0}}{{$c.Gateway}} {{$.Name}}{{end}}", "172.18.0.1 web"),
        # variables
        ("{{$x := .Name}}{{$x}}", "web"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}", "1"),
        # and, or, comparison
        ('{{and .Name .Driver}} {{or "" "x"}} {{not .Internal}}', "bridge x true"),
        ("{{and .Peers (index .Peers 0)}} {{or .Name (index .Peers 0)}}", "[] web"),
        (
            '{{ne 1 2}} {{lt 1 2}} {{ge "b" "a"}} {{eq 1 2 1}} {{le 1 1}} {{gt 1 1}}',
            "true true true true true false",
        ),
        # text functions
        ('{{upper .Name}} {{lower "ABC"}} {{title "abc d-e"}}', "WEB abc Abc D-E"),
        ('{{split "a,b" ","}} {{split "abc" ""}} {{join (split "a,b" ",") "-"}}', "[a b] [a b c] a-b"),
        ('{{pad .Name 2 3}}|{{pad "" 1 1}}|', "  web   ||"),
        ("{{truncate .ID 5}} {{truncate .Name 9}}", "aaaaa web"),
        ('{{println .Name 1 "a"}}', "web 1 a\n"),
        ('{{print 1 2 "a" "b" 3}}', "1 2ab3"),
        ('{{html "<a>"}} {{urlquery "a/b?c=d é"}}', "&lt;a&gt; a%2Fb%3Fc%3Dd+%C3%A9"),
        # pipelines
        ("{{.Name | upper | json}}", '"WEB"'),
        ('{{.Name | printf "%s-%s" "a"}}', "a-web"),
        ("{{(json .Name) | upper}}", '"WEB"'),
        # printf
        ('{{printf "%s-%d %5d|%-5s|%q" .Name 5 42 "ab" "q"}}', 'web-5    42|ab   |"q"'),
        ('{{printf "%5.2f|%e|%g|%05d|%+d" 3.14159 1.0 2.5 42 3}}', " 3.14|1.000000e+00|2.5|00042|+3"),
        (
            '{{printf "%x %X %o %b %x|%c|%U|%T|%%" 255 255 8 5 "hi" 65 65 "x"}}',
            "ff FF 10 101 6869|A|U+0041|string|%",
        ),
        ('{{printf "%v %t %.2s %8v|" .Peers true "abc" true}}', "[] true ab     true|"),
        ('{{printf "%d" "x"}} {{printf "%s" 3}} {{printf "%d"}}', "%!d(string=x) %!s(int=3) %!d(MISSING)"),
        (
            '{{printf "a" 1}} {{printf "%!%"}} {{printf "%s" nil}}',
            "a%!(EXTRA int=1) %!!(MISSING)%!(NOVERB) %!s(<nil>)",
        ),
        # layout
        ('{{/* c */}}x{{- " y " -}} z', "x y z"),
        ("x {{- /* c */ -}} y", "xy"),
        ("a\n  {{- .Name -}}\n b", "aweb b".replace(" ", "")),
        ('a{{"}}"}}b', "a}}b"),
        ("", ""),
        ("no action at all }}", "no action at all }}"),
    ],
)
def test_template_shows_what_docker_shows(template: str, text: str) -> None:
    assert shown(template) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Id}}", "a" * 64),
        ("{{(index .IPAM.Config 1).AuxiliaryAddresses}}", "map[a:172.19.0.5]"),
        ('{{index .IPAM.Config 0 "Subnet"}}', "172.18.0.0/16"),
    ],
)
def test_keys_of_the_json_work_too(template: str, text: str) -> None:
    with pytest.raises(TemplateError):
        shown(template)

    assert shown_from_json(template) == text


PREFIX = "template parsing error: template: "


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Name", ":1: unclosed action"),
        ("{{ .Name", ":1: unclosed action"),
        ("{{.Name}", ":1: bad character U+007D '}'"),
        ('{{ "abc }}', ":1: unterminated quoted string"),
        ("{{`abc }}", ":1: unterminated raw quoted string"),
        ("{{end}}", ":1: unexpected {{end}}"),
        ("{{else}}", ":1: unexpected {{else}}"),
        ("{{if .Name}}", ":1: unexpected EOF"),
        ("a\n{{range .Containers}}\n", ":2: unexpected EOF"),
        ("{{if .Name}}a{{else}}b{{else}}c{{end}}", ":1: expected end; found {{else}}"),
        ("{{range}}", ":1: missing value for range"),
        ("{{}}", ":1: missing value for command"),
        ("{{break}}", ":1: {{break}} outside {{range}}"),
        ("{{nope .Name}}", ':1: function "nope" not defined'),
        ("{{$y}}", ':1: undefined variable "$y"'),
        ("{{$y = 1}}", ':1: undefined variable "$y"'),
        ("{{|}}", ':1: unexpected "|" in command'),
        ("{{(.Name}}", ":1: unclosed left paren"),
        ("{{.Name)}}", ":1: unexpected right paren"),
        ("{{/* a }}", ":1: unclosed comment"),
        ("{{/* a */ b}}", ":1: comment ends before closing delimiter"),
        (r'{{"\q"}}', r':1: invalid syntax: "\q"'),
        (r'{{"\ud800"}}', r':1: invalid syntax: "\ud800"'),
        ("{{'ab'}}", ":1: malformed character constant: 'ab'"),
        ("{{1abc}}", ':1: bad number syntax: "1a"'),
        ("{{.Name | 3}}", ":1: non executable command in pipeline stage 2"),
        ('{{template "x"}}', ":1: {{template}} is not supported: write its text in place"),
        ("{{else if true}}", ":1: unexpected {{else}}"),
        ("{{if true}}{{else with 1}}{{end}}{{end}}", ":1: unexpected {{else with}}"),
    ],
)
def test_template_that_cannot_be_read_says_why(template: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(template)

    assert str(caught.value) == PREFIX + message


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Nope}}", """:1:2: executing "" at <.Nope>: map has no entry for key "Nope\""""),
        ("é{{.Nope}}", """:1:4: executing "" at <.Nope>: map has no entry for key "Nope\""""),
        ("a\n {{.Nope}}", """:2:3: executing "" at <.Nope>: map has no entry for key "Nope\""""),
        ("{{.IPAM.Nope}}", """:1:7: executing "" at <.IPAM.Nope>: map has no entry for key "Nope\""""),
        ("{{if .Nope}}{{end}}", """:1:5: executing "" at <.Nope>: map has no entry for key "Nope\""""),
        (
            "{{.Name.Foo}}",
            """:1:7: executing "" at <.Name.Foo>: can't evaluate field Foo in type interface {}""",
        ),
        (
            "{{index .IPAM.Config 5}}",
            """:1:2: executing "" at <index .IPAM.Config 5>: error calling index: index out of range: 5""",
        ),
        ("{{len 3}}", """:1:2: executing "" at <len 3>: error calling len: len of type int"""),
        ("{{3 | len}}", """:1:6: executing "" at <len>: error calling len: len of type int"""),
        ("{{json}}", """:1:2: executing "" at <json>: wrong number of args for json: want 1 got 0"""),
        (
            '{{upper "a" "b"}}',
            """:1:2: executing "" at <upper>: wrong number of args for upper: want 1 got 2""",
        ),
        ("{{and}}", """:1:2: executing "" at <and>: wrong number of args for and: want at least 1 got 0"""),
        (
            '{{eq 1 "a"}}',
            """:1:2: executing "" at <eq 1 "a">: error calling eq: incompatible types for comparison""",
        ),
        ("{{.Name .Driver}}", """:1:2: executing "" at <.Name>: Name is not a method but has arguments"""),
        ("{{nil}}", """:1:2: executing "" at <nil>: nil is not a command"""),
        ("{{range .Name}}{{end}}", """:1:8: executing "" at <.Name>: range can't iterate over web"""),
        (
            "{{range $k,$v := 3}}{{end}}",
            """:1:8: executing "" at <$k,$v := 3>: can't use 3 to iterate over more than one variable""",
        ),
        ('{{"a" "b"}}', """:1:2: executing "" at <"a">: can't give argument to non-function "a\""""),
    ],
)
def test_template_that_asks_for_what_is_not_there_says_where(template: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        shown_from_json(template)

    assert str(caught.value) == PREFIX + message


def test_heading_is_not_changed_by_functions_meant_for_values() -> None:
    template = Template(
        '{{upper .Name}} {{json .Name}} {{truncate .Name 1}} {{pad .Name 1 1}}{{join .Name ","}}'
    )

    assert template.heading(Struct("x", {"Name": "name"})) == "name name name  name name"


def test_nesting_too_deep_is_an_error() -> None:
    with pytest.raises(TemplateError, match="nested too deeply"):
        Template("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}").execute({})


@given(st.text(st.characters(codec="utf-8")).filter(lambda text: "{{" not in text))
def test_text_without_actions_is_shown_as_it_is(text: str) -> None:
    assert Template(text).execute({}) == text


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_value_comes_back_from_json(value: str) -> None:
    assert json.loads(Template("{{json .}}").execute({"key": value})) == {"key": value}


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_quoted_string_is_its_value(value: str) -> None:
    assert (
        Template("{{" + json.dumps(value, ensure_ascii=False).replace("\x7f", "\\x7f") + "}}").execute({})
        == value
    )


_PIECES = [
    *(
        "{{",
        "}}",
        "{{-",
        "-}}",
        " ",
        "(",
        ")",
        "|",
        ".",
        "$",
        "$x",
        ":=",
        "=",
        ",",
        ".Name",
        ".IPAM.Config",
        "3",
    ),
    *(
        "if",
        "else",
        "end",
        "range",
        "with",
        "break",
        "continue",
        "index",
        "len",
        "json",
        "printf",
        "eq",
        "and",
    ),
    *(
        '"a"',
        '"%d"',
        "-1",
        "1.5",
        "nil",
        "true",
        ".Labels",
        ".Containers",
        "slice",
        "join",
        "split",
        "text",
        "\n",
    ),
]


@given(st.lists(st.sampled_from(_PIECES), max_size=14).map(" ".join))
def test_any_template_is_shown_or_refused_in_one_error(template: str) -> None:
    try:
        shown(template)
    except TemplateError as error:
        line = str(error)
    else:
        return
    assert line.startswith(PREFIX)


@given(
    st.lists(st.sampled_from(_PIECES[4:]), max_size=6).map(lambda words: "{{" + " ".join(words) + "}}"),
)
def test_any_action_is_shown_or_refused_in_one_error(template: str) -> None:
    try:
        shown_from_json(template)
    except TemplateError as error:
        line = str(error)
    else:
        return
    assert line.startswith(PREFIX)

"""Tables whose cells hold what a format would read as its own."""

from __future__ import annotations

from conformask._tables import Table, names_and_values

TABLE = Table("a <b>\nb", ("class", "n"), [("<b>road|way</b>", "1"), ("sky\nline & more", "20")])


def test_markdown_shows_what_cells_hold() -> None:
    assert TABLE.markdown().splitlines() == [
        "**a &lt;b&gt; b**",
        "",
        "| class | n |",
        "| --- | ---: |",
        "| &lt;b&gt;road\\|way&lt;/b&gt; | 1 |",
        "| sky line &amp; more | 20 |",
    ]
    assert names_and_values("x", [("a\r\nb", "'c'")]).markdown().endswith("\n| a b | 'c' |")


def test_each_row_is_a_line_of_text() -> None:
    assert TABLE.plain().splitlines() == [
        "class             n",
        "<b>road|way</b>   1",
        "sky line & more  20",
    ]

"""Tables and generated blocks: what people and other tools read of a page."""

import pytest

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.markdown import facts, filled, marks, table, write_into

PAGE = 'a\n<!-- generated: one -->\nold\n<!-- end -->\nb\n<!-- generated: two -->\n<!-- end -->\n'


def test_numbers_align_to_the_right_of_the_left_columns():
    assert table(('a', 'b'), [['x', '1']]) == ['| a | b |', '|---|---:|', '| x | 1 |']
    assert table(('a', 'b'), [], left=2) == ['| a | b |', '|---|---|']
    assert facts({'Model': 'mid'}) == ['| | |', '|---|---|', '| Model | mid |']


@pytest.mark.parametrize('cell', ['a|b', 'a\\|b'])
def test_a_cell_stays_one_cell(cell):
    assert table(('x',), [[cell]])[2] == '| a\\|b |'
    assert table(('x',), [['two\nlines']])[2] == '| two lines |'


@pytest.mark.parametrize('row', [[], ['1'], ['1', '2', '3']])
def test_a_row_of_another_length_is_a_bug(row):
    with pytest.raises(ValueError, match='expected 2 cells'):
        table(('a', 'b'), [row])


def test_blocks_are_replaced_by_name_and_the_rest_stays(tmp_path):
    text = filled(PAGE, {'two': 'new\n\n', 'one': 'first', 'elsewhere': ''})
    assert text == PAGE.replace('old', 'first').replace('two -->\n', 'two -->\nnew\n')
    assert filled(text, {'two': 'new', 'one': 'first'}) == text
    page = tmp_path / 'page.md'
    page.write_text(PAGE)
    write_into(page, {'one': '1', 'two': '2'})
    assert page.read_text() == filled(PAGE, {'one': '1', 'two': '2'})


@pytest.mark.parametrize(
    'page, message',
    [
        ('', 'expected the marks <!-- generated: one --> ... <!-- end -->'),
        ('<!-- generated: one -->\nno end\n', '1 beginnings and 0 whole'),
        (PAGE + '<!-- generated: one -->\n', '3 beginnings and 2 whole'),
        ('see <!-- generated: one -->\n<!-- end -->\n', 'expected the marks'),
        (PAGE, "no block 'two'"),
    ],
)
def test_a_page_that_does_not_fit_is_left_alone(tmp_path, page, message):
    path = tmp_path / 'page.md'
    path.write_text(page)
    with pytest.raises(DataFileError, match=message) as raised:
        write_into(path, {'one': 'text'})
    assert str(path) in str(raised.value) and path.read_text() == page


def test_marks_are_what_a_block_is_found_by():
    begin, end = marks('any name')
    assert filled(f'{begin}\n{end}', {'any name': 'x'}) == f'{begin}\nx\n{end}'

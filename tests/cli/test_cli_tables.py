"""Tables that the command line reads, and those that it refuses."""

import csv
import gzip
import io as text_io
import pickle
import re

import numpy as np
import pytest
from cli_cases import flowers, table, write_csv

from fastnn import array_files
from fastnn.sequential import load

# ------------------------------------------------------------------ reading tables


def test_index_column_of_pandas_is_left_out(run):
    header, rows = flowers()
    write_csv("t.csv", ["", *header], [[i, *row] for i, row in enumerate(rows)])
    assert run("train", "t.csv", "--epochs", 1, "--save", "m")[0] == 0
    assert load("m", return_metadata=True)[1]["features"] == ["length", "width", "constant"]


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
@pytest.mark.parametrize("names", ["shuffled", "repeated", "text"])
def test_an_index_that_pandas_or_r_wrote_is_left_out(run, name, names):
    header, rows = flowers()
    order = np.random.default_rng(0).permutation(len(rows))
    index = {"shuffled": order, "repeated": order // 2, "text": [f"flower {i}" for i in order]}[names]
    write_csv("t.csv", [name, *header], [[i, *row] for i, row in zip(index, rows, strict=True)])
    code, _, err = run("train", "t.csv", "--epochs", 1, "--save", "m")
    assert code == 0
    assert err.startswith(f"fastnn: the first column, {name!r}, numbers or names the rows: it is left out\n")
    assert load("m", return_metadata=True)[1]["features"] == ["length", "width", "constant"]
    write_csv("u.csv", header, rows)
    assert run("predict", "m", "u.csv")[1] == run("predict", "m", "t.csv")[1]


def test_a_first_column_of_measurements_without_a_name_stays(run):
    header, rows = flowers()
    write_csv("t.csv", ["", *header[1:]], rows)
    assert run("train", "t.csv", "--epochs", 1, "--save", "m")[0] == 0
    assert load("m", return_metadata=True)[1]["features"] == ["(column 1)", "width", "constant"]


@pytest.mark.parametrize("label", ["NA", "None", "null", "nan", "N/A", "NULL", "n/a", "<NA>"])
def test_a_class_whose_name_means_missing_elsewhere(run, label):
    header, rows = flowers()
    write_csv("t.csv", header, [[*row[:3], label if row[3] == "no" else "yes"] for row in rows])
    code, out, _ = run("train", "t.csv", "--epochs", 1)
    assert code == 0
    assert "2 classes" in out


def test_spaces_around_a_label_do_not_make_a_class(run):
    header, rows = flowers()
    write_csv("t.csv", header, [[*row[:3], row[3] + "  " * (i % 2)] for i, row in enumerate(rows)])
    code, out, _ = run("train", "t.csv", "--epochs", 1)
    assert code == 0
    assert "2 classes (no, yes)" in out


def test_awkward_but_good_tables(run):
    header, rows = flowers()
    text = "\ufeff" + ", ".join(header) + "\r\n" + "".join(", ".join(map(str, row)) + "\r\n\r\n" for row in rows)
    with open("t.csv", "w", encoding="utf-8", newline="") as file:
        file.write(text)
    assert run("train", "t.csv", "--epochs", 1, "--save", "m")[0] == 0
    assert load("m", return_metadata=True)[1]["features"] == ["length", "width", "constant"]
    write_csv("u.csv", ["0", "1", "2", "3"], rows)  # names that pandas gives
    assert run("train", "u.csv", "--epochs", 1)[0] == 0
    write_csv(
        "w.csv",
        ["größe", "β", "x,y", "Blüte"],
        [[*row[:3], {"no": "nein", "yes": 'ja, "sehr"'}[row[3]]] for row in rows],
    )
    assert run("train", "w.csv", "--epochs", 60, "--save", "w")[0] == 0
    code, out, _ = run("predict", "w", "w.csv", "--proba")
    assert code == 0
    records = list(csv.reader(text_io.StringIO(out)))
    assert records[0] == ["prediction", 'probability_ja, "sehr"', "probability_nein"]
    assert {record[0] for record in records[1:]} == {"nein", 'ja, "sehr"'}


def test_true_false_features(run):
    write_csv("t.csv", ["flag", "y"], [[i % 2 == 0, "ab"[i % 2]] for i in range(40)])
    code, out, _ = run("train", "t.csv", "--epochs", 40)
    assert code == 0
    assert table(out)["test"][-1] == 100


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "t.csv: the file is empty"),
        ("\n\n", "t.csv: the file is empty"),
        ("a,b,c\n", "t.csv: no rows below the header"),
        ("a;b;c\n1;2;x\n", "only one column, 'a;b;c': columns must be separated by commas"),
        ("a\n1\n2\n", "only one column ('a'), expected features and a target"),
        ("1,2,3\n4,5,6\n", "the first line has only numbers (1, 2, 3), expected the names of the columns"),
        ("5.1,3.5,0\n4,5,1\n", "the first line has only numbers"),
        ("0,1\n1,0\n", "the first line has only numbers"),
        ("5.1,3.5,x\n4,5,z\n4,5,x\n", "the first line (5.1, 3.5, x) looks like a row of data"),
        ("a,b,y\n1,4,5,x\n2,4,5,z\n", "3 names in the header, 4 values in the first row below it"),
        ("a,y\n1,5\n1,NA\n", "target 'y' has a missing value in data row 2"),
        ("a,y\n1,5\n1,inf\n", "target 'y' has an infinite value in data row 2"),
        ("a,a,y\n1,2,x\n", "column 'a' appears more than once"),
        ("a,b,y\n1,2,x\n1,2,x,4\n", "not a regular table"),
        ("a,b,y\n1,2,x,4\n1,2,x,4\n", "not a regular table"),
        ("a,b,y\n1,2\n" * 9, "target 'y' has a missing value in data row 1"),
        ("a,b,y\n1,2,x\n1,,z\n", "column 'b' has a missing value in data row 2"),
        ("a,b,y\n1,2,x\nNA,2,z\n", "column 'a' has a missing value in data row 2"),
        ("a,b,y\n1,2,x\n1,inf,z\n", "column 'b' has an infinite value in data row 2"),
        ("a,b,y\n1,2,x\n1,2,z\noops,2,x\n", "column 'a' has 'oops' in data row 3, which is not a number"),
        ("a,b,y\nred,2,x\nblue,2,z\n", "column 'a' has 'red' in data row 1: features must be numbers"),
        ("a,when,y\n1,2024-01-01,x\n1,2024-01-02,z\n", "column 'when' has '2024-01-01' in data row 1"),
        ("a,b,y\n1,2,x\n1,2,\n", "target 'y' has a missing value in data row 2"),
        ("a,y\n" + "1,x\n" * 30, "target 'y' has only one class, 'x': nothing to learn"),
        ("a,y\n" + "1,5.5\n" * 30, "target 'y' is 5.5 in all rows: nothing to learn"),
        ("a,y\n" + "1,x\n1,z\n" * 15 + "1,rare\n", "1 of them have fewer than 2 rows to learn from (rare)"),
        ("a,y\n1,x\n1,x\n1,z\n1,z\n", "too few rows: 4 make 3 to train and 1 to test, and each part needs 2"),
        ("a,y\n1,1.5\n1,2.5\n", "too few rows"),
        ("a,y\n" + "1e308,1.5\n-1e308,2.5\n" * 10, "column 'a' has values too large to standardise"),
    ],
)
def test_bad_tables(refused, tmp_path, content, what):
    (tmp_path / "t.csv").write_text(content)
    message = refused("train", "t.csv")
    assert message.startswith("t.csv: ")
    assert what in message


def test_bad_files(refused, tmp_path):
    (tmp_path / "latin.csv").write_bytes("größe,y\n1,2\n".encode("latin-1"))
    assert "latin.csv: not a text file in UTF-8" in refused("train", "latin.csv")
    (tmp_path / "x.csv.gz").write_bytes(b"not gzip")
    assert "x.csv.gz: damaged gzip data" in refused("train", "x.csv.gz")
    whole = gzip.compress(b"a,b\n" + b"1,2\n" * 1000)
    (tmp_path / "x.csv.gz").write_bytes(whole[:30])
    assert "x.csv.gz: damaged gzip data" in refused("train", "x.csv.gz")
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    message = refused("train", "table.xlsx")
    assert message == "table.xlsx: unknown kind of file '.xlsx', expected .csv, .tsv, .csv.gz, .tsv.gz or .npz"
    (tmp_path / "folder.csv").mkdir()
    assert "folder.csv: is a folder" in refused("train", "folder.csv")
    assert refused("train", "absent.csv") == "absent.csv: no such file"
    assert "not one of the built-in data sets digits, iris, mnist, fashion_mnist" in refused("train", "irsi")
    assert "did you mean iris?" in refused("train", "irsi")


@pytest.mark.parametrize("name", ["t.tsv", "t.TSV", "t.tsv.gz", "t.csv.gz", "t.CSV.GZ"])
def test_tables_are_read_and_written_by_their_names(run, tmp_path, name):
    """The same rows, so the same network and the same predictions, whatever the file."""
    header, rows = flowers()
    write_csv("plain.csv", header, rows)
    comma = "," if "csv" in name.lower() else "\t"
    text = "".join(comma.join(map(str, row)) + "\n" for row in [header, *rows]).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.lower().endswith("gz") else text)
    assert run("train", "plain.csv", "--epochs", 2, "--target", "blooms", "--save", "m")[0] == 0
    assert run("train", name, "--epochs", 2, "--target", "blooms", "--save", "n")[0] == 0
    expected = run("predict", "m", "plain.csv")
    assert run("predict", "n", name) == expected
    assert run("predict", "m", name, "--output", f"out-{name}")[0] == 0
    written = (tmp_path / f"out-{name}").read_bytes()
    written = gzip.decompress(written) if name.lower().endswith("gz") else written
    assert written.decode() == expected[1]  # one column: nothing to separate
    search = ("--n", 2, "--cv", 2, "--epochs", 1, "--quiet")
    assert run("tune", name, *search, "--table", f"results-{name}")[0] == 0
    results = (tmp_path / f"results-{name}").read_bytes()
    results = (gzip.decompress(results) if name.lower().endswith("gz") else results).decode()
    table = list(csv.reader(text_io.StringIO(results), delimiter=comma))
    assert len(table) == 3
    assert {len(row) for row in table} == {len(table[0])}
    assert len(table[0]) > 5


def test_tables_of_another_separator_are_refused(refused, tmp_path):
    header, rows = flowers()
    for name, between, what in (
        ("t.tsv", ",", "columns must be separated by tabs"),
        ("t.tsv", ";", "columns must be separated by tabs"),
        ("t.csv", "\t", "columns must be separated by commas, or by tabs in a .tsv"),
    ):
        (tmp_path / name).write_text("\n".join(between.join(map(str, row)) for row in [header, *rows]))
        assert what in refused("train", name)
    (tmp_path / "t.txt").write_text("a,b\n")
    assert "unknown kind of file '.txt'" in refused("train", "t.txt")


@pytest.mark.parametrize(
    "content", ["a,b\n" + "1,2\n" * (1 << 20), "a,b\n" * (1 << 20), "\n" * (3 << 20), '"' * (3 << 20)]
)
def test_a_small_table_that_expands_without_limit_is_refused(refused, tmp_path, monkeypatch, content):
    monkeypatch.setattr(array_files, "MAX_EXPANDED", 1 << 20)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(content.encode()))
    assert re.search(r"t\.csv\.gz: [\d,]+ bytes expand to \d,\d{3},\d{3} or more", refused("train", "t.csv.gz"))


def test_a_first_line_that_is_no_header_is_refused_before_memory_is_taken(refused, tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a" * (1 << 25))
    assert "the first line has more than" in refused("train", "t.csv")
    (tmp_path / "t.tsv.gz").write_bytes(gzip.compress(b"\t" * 1_000_001))
    assert "the first line has more than" in refused("train", "t.tsv.gz")


def test_bad_npz(refused, tmp_path):
    path = tmp_path / "t.npz"
    X, y = np.ones((30, 2)), np.arange(30) % 2
    cases = [
        ({"a": X}, "expected arrays X and y, or x_train and y_train, got a"),
        ({"X": X}, "expected arrays X and y"),
        ({"X": X[:, 0], "y": y}, "array 'x' must have shape (rows, features), got (30,)"),
        ({"X": X, "y": y[:-1]}, "array 'y' has 29 rows, the features have 30"),
        ({"X": X, "y": np.ones((30, 3))}, "array 'y' must have shape (rows,), got (30, 3)"),
        ({"X": X * np.nan, "y": y}, "array 'x' has nan in row 0, column 0"),
        ({"X": X, "y": y + np.nan}, "array 'y' has nan in row 0"),
        ({"X": X.astype(complex), "y": y}, "array 'x' must hold numbers"),
        ({"X": np.array([[object()]]), "y": y}, "holds Python objects"),
        ({"x_train": X, "y_train": y, "x_test": X[:, :1], "y_test": y}, "x_test has 1 columns"),
    ]
    for arrays, what in cases:
        np.savez(path, **arrays)
        message = refused("train", "t.npz")
        assert message.startswith("t.npz: ")
        assert what in message
    for content in (b"garbage", b"PK\x03\x04garbage", pickle.dumps([1]), path.read_bytes()[:-30]):
        path.write_bytes(content)
        assert refused("train", "t.npz").startswith("t.npz: ")
    with open(path, "wb") as file:
        np.save(file, X)
    assert refused("train", "t.npz") == "t.npz: not an .npz file"


def test_unknown_target(refused):
    write_csv("t.csv", *flowers())
    message = refused("train", "t.csv", "--target", "bloom")
    assert "no column 'bloom' for the target; the columns are length, width, constant, blooms" in message
    assert "did you mean 'blooms'?" in message
    assert "--target is for a .csv" in refused("train", "digits", "--target", "digit")

"""Which files of a download in aria2 are deleted here, and which never."""

from pathlib import Path

import pytest

from mediabus.service.clients.aria2 import Aria2Settings
from mediabus.service.clients.aria2.files import Elsewhere, delete, doomed


@pytest.fixture
def allowed(tmp_path: Path) -> Path:
    """The folder of the settings."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A folder outside of aria2's."""
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "mine.mkv").touch()
    return folder


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("below", [".", "tv"])
def test_files_are_deleted_with_the_emptied_directories(allowed: Path, below: str) -> None:
    home = allowed / below
    episode, extra = home / "show" / "s1" / "e1.mkv", home / "show" / "extra.nfo"
    touch(episode, extra, home / "kept.mkv", home / "show.aria2", home / "kept.mkv.aria2")

    paths = [str(episode), str(home / "show" / "never there"), "[METADATA]show", ""]
    delete(doomed(str(allowed), str(home), paths))
    assert extra.exists()
    assert not episode.parent.exists()
    delete(doomed(str(allowed), str(home), [str(extra)]))

    assert sorted(path.name for path in home.iterdir()) == ["kept.mkv", "kept.mkv.aria2"]


def test_different_links_to_a_folder_are_the_same_folder(allowed: Path, tmp_path: Path) -> None:
    other = tmp_path / "mnt"
    other.symlink_to(allowed)
    touch(allowed / "a.mkv")

    delete(doomed(str(allowed), str(other), [str(other / "a.mkv")]))

    assert list(allowed.iterdir()) == []


@pytest.mark.parametrize(
    "path",
    [
        "{library}/mine.mkv",
        "{allowed}/../library/mine.mkv",
        "{allowed}/show/../../library/mine.mkv",
        "{allowed}/link/mine.mkv",
        "{allowed}/show/deep/mine.mkv",
        "{allowed}/..",
        "{allowed}/.",
        "{allowed}",
        "{allowed}/other/theirs.mkv",
        "/",
    ],
)
def test_a_file_outside_the_folder_refuses_the_whole_removal(
    allowed: Path, library: Path, path: str
) -> None:
    home = allowed / "show"
    touch(home / "e1.mkv", allowed / "other" / "theirs.mkv")
    (allowed / "link").symlink_to(library)
    (home / "deep").symlink_to(library)
    named = path.format(allowed=allowed, library=library)

    with pytest.raises(Elsewhere):
        doomed(str(allowed), str(home), [str(home / "e1.mkv"), named])


@pytest.mark.parametrize(
    "directory", ["{library}", "{allowed}/..", "{allowed}/link", "/", "downloads", "", "{allowed}X"]
)
def test_a_download_in_another_folder_loses_no_file(
    allowed: Path, library: Path, directory: str
) -> None:
    (allowed / "link").symlink_to(library)
    folder = directory.format(allowed=allowed, library=library)

    with pytest.raises(Elsewhere):
        doomed(str(allowed), folder, [f"{folder}/mine.mkv"])
    with pytest.raises(Elsewhere):
        doomed(str(allowed), str(allowed).upper(), [])


def test_a_link_is_deleted_and_its_target_is_not(allowed: Path, library: Path) -> None:
    touch(allowed / "show" / "a")
    (allowed / "show" / "mine.mkv").symlink_to(library / "mine.mkv")

    delete(doomed(str(allowed), str(allowed), [str(allowed / "show" / "mine.mkv")]))

    assert (library / "mine.mkv").exists()
    assert not (allowed / "show" / "mine.mkv").is_symlink()


def test_a_folder_replaced_by_a_link_is_not_followed(allowed: Path, library: Path) -> None:
    touch(allowed / "show" / "mine.mkv")
    doom = doomed(str(allowed), str(allowed), [str(allowed / "show" / "mine.mkv")])
    (allowed / "show" / "mine.mkv").unlink()
    (allowed / "show").rmdir()
    (allowed / "show").symlink_to(library)

    delete(doom)

    assert (library / "mine.mkv").exists()
    assert library.exists()


def test_missing_files_and_too_long_names_are_ignored(allowed: Path) -> None:
    touch(allowed / "a.mkv")
    long = "x" * 300
    paths = [allowed / "gone" / "b", allowed / long, allowed / long / "c", allowed / "a.mkv"]

    delete(doomed(str(allowed), str(allowed), [str(path) for path in paths]))

    assert list(allowed.iterdir()) == []


def test_a_missing_downloads_dir_deletes_nothing(allowed: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        doomed(str(allowed / "never"), str(allowed), [])


@pytest.mark.parametrize("folder", ["downloads", "", "/", "//", "/srv/../"])
def test_an_invalid_downloads_dir_is_refused(folder: str) -> None:
    with pytest.raises(ValueError, match="downloads_dir must be"):
        Aria2Settings(name="a", url="http://nas:6800", downloads_dir=folder)

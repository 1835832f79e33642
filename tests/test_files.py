"""Files are whole or not there, and what they hold is checked before it is allocated."""

import os
import stat
import zipfile

import numpy as np
import pytest

from convexnn.files import check_writable, read_arrays, replacing


def test_a_block_that_fails_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), replacing(path, text=True) as file:
            file.write("half of")
            raise error
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["a.txt"]
    with pytest.raises(ValueError), replacing(tmp_path / "new"):
        raise ValueError
    assert os.listdir(tmp_path) == ["a.txt"]


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"before")
    path.chmod(0o640)
    with replacing(path) as file:
        file.write(b"after")
        file.flush()
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after" and stat.S_IMODE(path.stat().st_mode) == 0o640
    with replacing(tmp_path / "new"):
        pass
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o666 & ~umask()


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_links_and_devices_stay_what_they_are(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with replacing(tmp_path / "link", text=True) as file:
        file.write("x\n")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_bytes() == b"x\n"
    with replacing("/dev/null") as file:
        file.write(b"x")
    check_writable("/dev/null")
    # A pipe has a name that leads nowhere.
    reader, writer = os.pipe()
    with open(reader, "rb") as end, open(writer, "wb"):
        check_writable(f"/dev/fd/{writer}")
        with replacing(f"/dev/fd/{writer}") as file:
            file.write(b"through")
        assert end.read(7) == b"through"
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "none" / "a", tmp_path / "folder"):
        with pytest.raises(OSError, match=str(path)):
            check_writable(path)
        with pytest.raises(OSError, match=str(path)), replacing(path):
            pass
    check_writable(tmp_path / "a")
    assert os.listdir(tmp_path) == ["folder"]


def test_arrays_come_back_bitwise(tmp_path):
    arrays = dict(
        empty=np.zeros((0, 3)), turned=np.asfortranarray(np.arange(6.0).reshape(2, 3)), text=np.array(["a", "bcd"]),
        nothing=np.array(""), number=np.array(3.5), swapped=np.arange(3, dtype=">i4"), yes=np.array([True]),
    )  # fmt: skip
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    found = read_arrays(tmp_path / "a.npz")
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array) and found[name].flags.writeable


def member(header, content=b""):
    """An .npy file with a header of any kind."""
    text = f"{header}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


CRAFTED = {
    "more than there is": member("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}", b"x"),
    "less than there is": member("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", bytes(16)),
    "negative lengths": member("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -2)}", bytes(16)),
    "without size": member("{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000, 1000000000000)}"),
    "objects": member("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n(S'true'\ntR."),
    "no dtype": member("{'descr': 'no', 'fortran_order': False, 'shape': (1,)}"),
    "no header": b"\x93NUMPY\x01\x00\xff\xff{",
    "deep": member("(" * 5000),
}


@pytest.mark.parametrize("kind", CRAFTED)
def test_crafted_arrays(tmp_path, kind):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("W1.npy", CRAFTED[kind])
    with pytest.raises(ValueError, match=r"a\.npz is not an \.npz file of a network: "):
        read_arrays(tmp_path / "a.npz")


def test_a_small_file_does_not_become_a_large_array(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file, file.open("W1.npy", "w") as inner:
        inner.write(member("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000,)}"))
        for _ in range(80):
            inner.write(bytes(10**6))
    assert (tmp_path / "a.npz").stat().st_size < 10**5
    with pytest.raises(ValueError, match=r"take 80,000,0\d\d bytes, more than the 67,108,864"):
        read_arrays(tmp_path / "a.npz")

"""Damage to the files of a folder."""


def largest_file(folder):
    """Returns the largest file in any folder below: of a checkpoint, one with arrays."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return max(files, key=lambda path: path.stat().st_size)


def flip_a_bit(folder):
    """Flips one bit in the middle of the largest file."""
    path = largest_file(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)

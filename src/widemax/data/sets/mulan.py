"""Four data sets of Mulan, the classics of several right labels a row."""

import gzip
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet, on_github

_XMLNS = "{http://mulan.sourceforge.net/labels}"


class MulanSet(PublicSet):
    """Numbers and labels of one of Mulan's sets, with the split its authors made."""

    licence = "none stated; cite the source"
    url = "https://mulan.sourceforge.net/datasets-mlc.html"
    inputs = ("features",)
    target = "labels"
    stem: ClassVar[str]

    def prepare(self, source: Path, into: Path) -> None:
        with gzip.open(source / f"{self.stem}.xml.gz") as file:
            names = [label.attrib["name"] for label in ET.parse(file).iter(f"{_XMLNS}label")]
        for split in self.splits:
            features, labels = [], []
            for row in _rows(source / f"{self.stem}-{split}.arff.gz"):
                labels.append([name for name in names if row.pop(name)])
                features.append(list(row.values()))
            columns = {
                "features": pa.array(features, pa.list_(pa.float32(), len(features[0]))),
                "labels": pa.array(labels, pa.list_(pa.string())),
            }
            self.write(into, split, columns)


def _rows(path: Path) -> Iterator[dict[str, float]]:
    """Attribute to number, row by row; a line in braces names only what is not 0."""
    attributes: list[str] = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in map(str.strip, file):
            if line.lower().startswith("@attribute"):
                attributes.append(line.split()[1])
            elif line.startswith("{"):
                row = dict.fromkeys(attributes, 0.0)
                for entry in filter(None, line.strip("{}").split(",")):
                    place, number = entry.split()
                    row[attributes[int(place)]] = float(number)
                yield row
            elif line and line[0] not in "%@":
                yield dict(zip(attributes, map(float, line.split(",")), strict=True))


def _addresses(stem: str, files: Iterable[str]) -> dict[str, str]:
    return on_github(
        "tsoumakas/mulan",
        "43f6389095ad71984264db4387a8074b22bc7d4a",
        f"data/multi-label/{stem}/",
        *(name.removesuffix(".gz") for name in files),
    )


@sets.register("mulan_emotions")
class MulanEmotions(MulanSet):
    """391 training and 202 test songs: 72 measurements of rhythm and timbre, and several of 6 emotions."""

    stem = "emotions"
    title = "Emotions: music and the moods it evokes"
    attribution = (
        "K. Trohidis, G. Tsoumakas, G. Kalliris, I. Vlahavas: Multilabel Classification of Music into "
        "Emotions, ISMIR 2008; as packed by Mulan."
    )
    files = {
        "emotions-train.arff.gz": "bbe704106c79bb8fb99c1d1d2e9bde081d6a2daeb01f100862f11fd91a3c1f98",
        "emotions-test.arff.gz": "f13d4b746b7b5c8eb484bd751d6ac463d4560dff998a93516a5c1fe35daf6c8f",
        "emotions.xml.gz": "dbce8e6ccbbb2fcbfd9e9edbb230d7ed12692c6e13f59fdbc0161fa9b6cf2dc0",
    }
    downloads = _addresses("emotions", files)
    download_bytes = 384_410


@sets.register("mulan_scene")
class MulanScene(MulanSet):
    """1,211 training and 1,196 test photographs: 294 color moments, and several of 6 scenes."""

    stem = "scene"
    title = "Scene: photographs and what they show"
    attribution = (
        "M. R. Boutell, J. Luo, X. Shen, C. M. Brown: Learning Multi-Label Scene Classification, Pattern "
        "Recognition 37(9), 2004; as packed by Mulan."
    )
    files = {
        "scene-train.arff.gz": "b53ba93bdf412de922e3960389bcee24744fa3e872ce610511fc1d750888b64d",
        "scene-test.arff.gz": "ea38d20296b3ff7e220f477a3b802a9bcb2d768881fe6ee163efbc97ea527a42",
        "scene.xml.gz": "55d8b247b949ad5c52e5a73d8c6775ec6e5469ce9682465b45b333b68ee4bcc5",
    }
    downloads = _addresses("scene", files)
    download_bytes = 6_218_995


@sets.register("mulan_yeast")
class MulanYeast(MulanSet):
    """1,500 training and 917 test genes: 103 measurements, and several of 14 functions."""

    stem = "yeast"
    title = "Yeast: genes and their functions"
    attribution = (
        "A. Elisseeff, J. Weston: A Kernel Method for Multi-Labelled Classification, NIPS 2001; as packed by "
        "Mulan."
    )
    files = {
        "yeast-train.arff.gz": "e759dc991ff54694a4ff9c4314f3be0d6fd2b1994a4b563f57e416394c6aebbd",
        "yeast-test.arff.gz": "4aaac102bff9669a765bf0b378602e5cc8c3b181048282e2f003117b496d552a",
        "yeast.xml.gz": "c3056cc26444b5158b1588d1b73bec9c45429e10f0957ad085903423cb81f247",
    }
    downloads = _addresses("yeast", files)
    download_bytes = 2_420_158


@sets.register("mulan_delicious")
class MulanDelicious(MulanSet):
    """12,920 training and 3,185 test web pages: which of 500 words each has, and several of 983 tags."""

    stem = "delicious"
    title = "Delicious: web pages and their tags"
    attribution = (
        "G. Tsoumakas, I. Katakis, I. Vlahavas: Effective and Efficient Multilabel Classification in Domains "
        "with Large Number of Labels, ECML/PKDD 2008 Workshop on Mining Multidimensional Data; as packed by "
        "Mulan."
    )
    files = {
        "delicious-train.arff.gz": "030186cdb542ebdd32052fcdbb1ebe30115b3a22518c1b4b198c45eb827aebe1",
        "delicious-test.arff.gz": "2dfb01723a819914b0ca83361177ed413ce3f2169851d9f228d4692915d63944",
        "delicious.xml.gz": "4e0c0f93c7d86a39b9fca4aaefaa00e9428f2c80277732dfbf03ca48e2c14da2",
    }
    downloads = _addresses("delicious", files)
    download_bytes = 3_848_458

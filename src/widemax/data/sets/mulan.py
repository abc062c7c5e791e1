"""Four data sets of Mulan, the classics of several right labels a row."""

import gzip
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet

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


@sets.register("mulan_emotions")
class MulanEmotions(MulanSet):
    """391 training and 202 test songs: 72 measurements of rhythm and timbre, and several of 6 emotions."""

    name = "mulan_emotions"
    stem = "emotions"
    title = "Emotions: music and the moods it evokes"
    attribution = (
        "K. Trohidis, G. Tsoumakas, G. Kalliris, I. Vlahavas: Multilabel Classification of Music into "
        "Emotions, ISMIR 2008; as packed by Mulan."
    )
    files = {
        "emotions-train.arff.gz": "667a7ab66c4c75681b9e6c5d32059a0913ddc47a50c51904f049b6b1b2432c1d",
        "emotions-test.arff.gz": "ba324be70aa7939b1ada8122e88ad4e5c1c1ba4fd0bd3b5246cc3ca5723c4fb2",
        "emotions.xml.gz": "d9e6c80a87afc9653d3cf2abbfad583f16d5653afa70f4232a739b818ad80294",
    }


@sets.register("mulan_scene")
class MulanScene(MulanSet):
    """1,211 training and 1,196 test photographs: 294 color moments, and several of 6 scenes."""

    name = "mulan_scene"
    stem = "scene"
    title = "Scene: photographs and what they show"
    attribution = (
        "M. R. Boutell, J. Luo, X. Shen, C. M. Brown: Learning Multi-Label Scene Classification, Pattern "
        "Recognition 37(9), 2004; as packed by Mulan."
    )
    files = {
        "scene-train.arff.gz": "d5b96b838eaa821c355a86d2d1e2b7c7b8aad7afa68255932e148c79ade647b9",
        "scene-test.arff.gz": "125f88bebad7f8dc21de4aa7518ee8a01a2371887e4ccc65c19db9249a002393",
        "scene.xml.gz": "ff7ded93c0f35289fd215ebe051bcc32bad307dfb5369f5edfe61ee2ca855660",
    }


@sets.register("mulan_yeast")
class MulanYeast(MulanSet):
    """1,500 training and 917 test genes: 103 measurements, and several of 14 functions."""

    name = "mulan_yeast"
    stem = "yeast"
    title = "Yeast: genes and their functions"
    attribution = (
        "A. Elisseeff, J. Weston: A Kernel Method for Multi-Labelled Classification, NIPS 2001; as packed by "
        "Mulan."
    )
    files = {
        "yeast-train.arff.gz": "faf769ad1b29072250d54a2b366753ba40ec8311d393daea732922dc8287662f",
        "yeast-test.arff.gz": "e06e2934c48c796bc1f4f62822cdeb85b69a8303a32b7175a732fa35b297480e",
        "yeast.xml.gz": "83e2a4eebd881f2958b5185e19d801041528455e588fe1836739c2c3d223e51e",
    }


@sets.register("mulan_delicious")
class MulanDelicious(MulanSet):
    """12,920 training and 3,185 test web pages: which of 500 words each has, and several of 983 tags."""

    name = "mulan_delicious"
    stem = "delicious"
    title = "Delicious: web pages and their tags"
    attribution = (
        "G. Tsoumakas, I. Katakis, I. Vlahavas: Effective and Efficient Multilabel Classification in Domains "
        "with Large Number of Labels, ECML/PKDD 2008 Workshop on Mining Multidimensional Data; as packed by "
        "Mulan."
    )
    files = {
        "delicious-train.arff.gz": "600c14828756bf07f3d012851f2a1d49d4a6de19c1d9afdbacecafba428ff983",
        "delicious-test.arff.gz": "0f3d4659648907c3c0e84ef8d0efe5359b811d7fe4ff0c78fb326be8ae77dad1",
        "delicious.xml.gz": "7a56166c832913ed7eccdfcde6e779e0804bf87ecc3eeac6f869a60d434d9865",
    }

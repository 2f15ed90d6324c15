"""XMP packets, with exiftool as the other program that must read what we write."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from i2i.imaging import decode, xmp

RICH = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 5.6-c140">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="uuid:1-2"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
    xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:mm="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
    xmp:CreatorTool="Tom &amp; &quot;Jerry&quot; &lt;3" xmp:Rating="4" tiff:Orientation="6"
    tiff:ImageWidth="640" exif:GPSLatitude="48,51.4N" exif:ExposureProgram="2">
   <dc:title xmlns:dc="http://purl.org/dc/elements/1.1/"><rdf:Alt>
     <rdf:li xml:lang="x-default">A horse</rdf:li><rdf:li xml:lang="ja">馬 &amp; 縞</rdf:li>
     <rdf:li xml:lang="de">Ein  Pferd</rdf:li></rdf:Alt></dc:title>
   <dc:subject xmlns:dc="http://purl.org/dc/elements/1.1/"><rdf:Bag>
     <rdf:li>horse</rdf:li><rdf:li>лошадь</rdf:li></rdf:Bag></dc:subject>
   <mm:History><rdf:Seq><rdf:li stEvt:action="saved" stEvt:instanceID="xmp.iid:1"/>
     <rdf:li rdf:parseType="Resource"><stEvt:action>converted</stEvt:action>
       <stEvt:parameters>to\tJPEG</stEvt:parameters></rdf:li></rdf:Seq></mm:History>
  </rdf:Description>
  <rdf:Description rdf:about="uuid:1-2" xmlns:exif="http://ns.adobe.com/exif/1.0/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <exif:GPSLongitude>2,21.1E</exif:GPSLongitude>
   <Iptc4xmpExt:DigitalSourceType>http://old/digitalCapture</Iptc4xmpExt:DigitalSourceType>
   <Iptc4xmpExt:LocationCreated><rdf:Bag><rdf:li rdf:parseType="Resource">
     <Iptc4xmpExt:City>Paris</Iptc4xmpExt:City>
     <exif:GPSAltitude>35/1</exif:GPSAltitude></rdf:li></rdf:Bag></Iptc4xmpExt:LocationCreated>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>""".encode()

SOURCE = f"{{{xmp.IPTC_EXTENSION}}}DigitalSourceType"
RECIPE = f"{{{xmp.OWN}}}Recipe"
NEW = {SOURCE: "http://cv/trained", RECIPE: 'zebra <&> "ü"'}


def bare(body: str, head: str = "") -> bytes:
    rdf = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
    text = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{rdf}">{body}</rdf:RDF>'
    return f"{head}{text}</x:xmpmeta>".encode()


@pytest.fixture
def exiftool(tmp_path: Path):
    """What exiftool reads from a packet: every property by its group and name."""
    program = shutil.which("exiftool")
    if program is None:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")

    def run(packet: bytes) -> dict[str, object]:
        file = tmp_path / "packet.xmp"
        file.write_bytes(packet)
        command = [program, "-config", "", "-json", "-struct", "-G1", "-a", "-n", "-XMP:all", file]
        (found,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        del found["SourceFile"]
        return found

    return run


def test_everything_else_in_a_packet_keeps_its_meaning(exiftool) -> None:
    before, after = exiftool(RICH), exiftool(xmp.merge(RICH, NEW))

    assert before.pop("XMP-iptcExt:DigitalSourceType") == "http://old/digitalCapture"
    assert after.pop("XMP-iptcExt:DigitalSourceType") == "http://cv/trained"
    assert after.pop("XMP-i2i:Recipe") == NEW[RECIPE]
    assert after == before
    assert before["XMP-dc:Title-ja"] == "馬 & 縞"
    assert len(before["XMP-xmpMM:History"]) == 2


def test_prefixes_stay_readable() -> None:
    packet = xmp.merge(RICH, NEW).decode()
    assert "<mm:History>" in packet
    assert "ns0:" not in packet
    assert '<rdf:li xml:lang="ja">' in packet


def test_prefixes_that_mean_two_things_are_told_apart(exiftool) -> None:
    one = '<rdf:Description xmlns:a="urn:one" a:x="1"/><rdf:Description xmlns:a="urn:two" a:x="2"/>'
    two = '<rdf:Description><y xmlns="urn:three">3</y></rdf:Description>'
    merged = xmp.merge(bare(one + two), NEW)
    found = xmp.read(merged)
    assert [found[f"{{urn:{n}}}{x}"] for n, x in [("one", "x"), ("two", "x"), ("three", "y")]] == [
        "1",
        "2",
        "3",
    ]
    assert len(exiftool(merged)) == 5


def test_merging_again_replaces_and_equal_input_gives_equal_bytes() -> None:
    once = xmp.merge(RICH, NEW | {f"{{{xmp.OWN}}}Gone": "1"})
    twice = xmp.merge(once, NEW)
    assert twice == xmp.merge(RICH, NEW)
    assert xmp.read(twice).keys() & {SOURCE, RECIPE, f"{{{xmp.OWN}}}Gone"} == {SOURCE, RECIPE}
    assert twice.count(b"DigitalSourceType>") == 2


def test_a_value_that_stood_as_an_attribute_is_replaced() -> None:
    space = f'xmlns:e="{xmp.IPTC_EXTENSION}"'
    packet = bare(f'<rdf:Description {space} e:DigitalSourceType="old" e:Event="x"/>')
    merged = xmp.merge(packet, NEW)
    assert b"old" not in merged
    assert xmp.read(merged)[f"{{{xmp.IPTC_EXTENSION}}}Event"] == "x"


def test_without_a_packet_a_whole_one_is_begun(exiftool) -> None:
    packet = xmp.merge(None, NEW)
    assert packet.startswith('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'.encode())
    assert packet.endswith(b'<?xpacket end="w"?>')
    assert exiftool(packet)["XMP-i2i:Recipe"] == NEW[RECIPE]


def test_descriptions_go_by_the_name_that_the_packet_used() -> None:
    assert xmp.merge(RICH, NEW).count(b'rdf:about="uuid:1-2"') == 3


def test_any_value_comes_back_as_it_was() -> None:
    for value in ("", " a  b ", "]]>", "a&amp;b", "馬", '{"a":"\\u0000"}', "&#10;"):
        assert xmp.read(xmp.merge(None, {RECIPE: value}))[RECIPE] == value.strip()
    assert xmp.read(xmp.merge(None, {RECIPE: "a\0b\udcff\uffff"}))[RECIPE] == "a\\x00b\\udcff\ufffd"


def test_carriage_returns_and_tabs_survive() -> None:
    packet = bare(
        '<rdf:Description xmlns:a="urn:a" a:b="1&#13;&#10;&#9;2"><a:c>&#13;</a:c></rdf:Description>'
    )
    again = xmp.merge(xmp.merge(packet, {}), {})
    assert b'a:b="1&#13;&#10;&#9;2"' in again
    assert b"<a:c>&#13;</a:c>" in again


def test_text_between_elements_survives() -> None:
    literal = '<a:note rdf:parseType="Literal">one <a:b>two</a:b> three</a:note>'
    packet = bare(f'<rdf:Description xmlns:a="urn:a">{literal}</rdf:Description>')
    assert literal in xmp.merge(packet, NEW).decode()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_packets_of_other_encodings_are_read(encoding: str) -> None:
    packet = (RICH.decode() + "   \n").encode(encoding)
    assert xmp.merge(packet, NEW) == xmp.merge(RICH, NEW)


def test_padding_and_zeros_after_a_packet_are_no_damage() -> None:
    assert xmp.merge(RICH + b" " * 2048 + b"\0", NEW) == xmp.merge(RICH, NEW)


def bomb(levels: int) -> str:
    entities = '<!ENTITY a0 "lol">' + "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, levels)
    )
    return f'<?xml version="1.0"?><!DOCTYPE l [{entities}]>'


DAMAGED = {
    "empty": b"",
    "cut short": RICH[:900],
    "no XML": b"\xff\xd8\xff\xe1 anything",
    "latin-1": RICH.replace("ь".encode(), b"\xe9"),
    "a prefix that nothing declares": bare('<rdf:Description foo:bar="1"/>'),
    "no RDF": b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>",
    "a billion laughs": bare('<rdf:Description a="&a9;"/>', bomb(10)),
    "a few laughs, which expat would allow": bare('<rdf:Description a="&a1;"/>', bomb(2)),
    "an external entity": bare("&f;", '<!DOCTYPE l [<!ENTITY f SYSTEM "file:///etc/passwd">]>'),
    "a hundred thousand levels": bare("<rdf:li>" * 100_000 + "</rdf:li>" * 100_000),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize(
    "use", [lambda packet: xmp.merge(packet, NEW), xmp.read, xmp.carry_over, xmp.remove_gps]
)
def test_damage_and_attacks_are_named_and_nothing_is_repaired(name: str, use) -> None:
    with pytest.raises(xmp.DamagedXmp):
        use(DAMAGED[name])


def test_positions_are_removed_wherever_they_stand(exiftool) -> None:
    drone = 'xmlns:d="http://www.dji.com/drone-dji/1.0/" d:GpsLatitude="+48.8"'
    geo = 'xmlns:geo="http://www.w3.org/2003/01/geo/wgs84_pos#"'
    extra = f'<rdf:Description {drone} {geo} d:Gimbal="1"><geo:lat>48</geo:lat></rdf:Description>'
    packet = RICH.replace(b" </rdf:RDF>", f"{extra}</rdf:RDF>".encode())
    assert sum("gps" in str(item).lower() for item in exiftool(packet).items()) == 4

    cleaned = xmp.remove_gps(packet)

    assert b"gps" not in cleaned.lower()
    assert b"geo" not in cleaned
    found = exiftool(cleaned)
    assert found["XMP-iptcExt:LocationCreated"] == [{"City": "Paris"}]
    assert found["XMP-exif:ExposureProgram"] == 2
    assert "XMP-drone-dji:Gimbal" in found


def test_what_is_carried_over_is_upright_and_says_nothing_of_the_old_file(exiftool) -> None:
    elements = """<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
      xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dcterms="http://purl.org/dc/terms/"
      dcterms:provenance="https://example.com/manifest">
      <tiff:Orientation>8</tiff:Orientation><tiff:Make>Camera</tiff:Make>
      <xmp:Thumbnails><rdf:Alt><rdf:li>a picture</rdf:li></rdf:Alt></xmp:Thumbnails>
      </rdf:Description>"""
    for packet in (RICH, bare(elements)):
        before, after = exiftool(packet), exiftool(xmp.carry_over(packet))
        assert before.pop("XMP-tiff:Orientation") in (6, 8)
        assert after.pop("XMP-tiff:Orientation") == 1
        gone = before.keys() - after.keys()
        assert gone in (
            {"XMP-tiff:ImageWidth"},
            {"XMP-dcterms:Provenance", "XMP-xmp:Thumbnails"},
        )
        assert {key: before[key] for key in after} == after


def test_a_packet_that_is_too_large_loses_its_largest_properties_by_name() -> None:
    history = "<rdf:li>x</rdf:li>" * 6000
    packet = RICH.replace(b"<rdf:li stEvt:action", history.encode() + b"<rdf:li stEvt:action", 1)
    packet = xmp.merge(packet, NEW | {RECIPE: "r" * 20_000})
    assert len(packet) > 100_000
    smaller, left_out = xmp.shrink(packet, 60_000)
    assert len(smaller) <= 60_000
    assert left_out == ("mm:History",)
    assert xmp.read(smaller)[RECIPE] == "r" * 20_000
    assert "лошадь".encode() in smaller
    assert xmp.shrink(smaller, 60_000) == (smaller, ())
    with pytest.raises(xmp.DamagedXmp, match="60,000"):
        xmp.shrink(xmp.merge(None, {RECIPE: "r" * 60_000}), 60_000)


def test_the_extension_of_a_jpegs_packet_is_joined_to_it(tmp_path: Path) -> None:
    program = shutil.which("exiftool")
    if program is None:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")
    file = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(file)
    (tmp_path / "long").write_text("ä" * 60_000, encoding="utf-8")
    long = f"-XMP-dc:Description<={tmp_path / 'long'}"
    command = [program, "-config", "", "-q", "-XMP-dc:Title=short", long, file]
    subprocess.run(command, check=True)
    content = file.read_bytes()
    with Image.open(file) as image:
        packet = image.info["xmp"]
    assert b"HasExtendedXMP" in packet
    assert len(packet) < 65_536

    whole = xmp.with_extension(packet, content)

    assert b"HasExtendedXMP" not in whole
    assert whole.decode().count("ä") == 60_000
    assert b">short<" in whole
    read = decode(content, "a.jpg").metadata.xmp or b""
    assert read.decode().count("ä") == 60_000
    cut = content.replace(
        b"http://ns.adobe.com/xmp/extension/", b"http://ns.adobe.com/xmp/lost/...."
    )
    assert xmp.with_extension(packet, cut) == packet
    assert xmp.with_extension(RICH, content) == RICH

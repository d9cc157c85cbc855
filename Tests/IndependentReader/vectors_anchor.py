"""The vectors of anchors: files made from the headers of good images, right and wrong."""

import vector_file
import vectors_anchor_good  # noqa: F401  both fill VECTORS
import vectors_anchor_refused  # noqa: F401
import vnvram_anchor as a
from anchor_parts import IMAGES, VECTORS
from vector_parts import GOOD


def volume_of(image):
    """The volume of a good image vector, as its builder makes it."""
    import make_vectors
    from vnvram_image import Volume

    builder, line = GOOD[image][1](image)
    return Volume(make_vectors.image_of(builder), make_vectors.credential(line))


def vectors():
    """Every anchor's vector, in order of name."""
    volumes = {image: volume_of(image) for image in IMAGES}
    made = []
    for name, (expect, image, about, counter, make) in sorted(VECTORS.items()):
        header = volumes[image].header
        content = make(header)
        fields = {"name": name, "about": about, "expect": expect, "image": image}
        if counter is not None:
            fields["counter"] = str(counter)
        values = {}
        if expect in ("current", "ahead"):
            found = a.newest(content, header)
            mac_input = a.mac_input(header.digest, found.raw)
            values = {"anchor-mac-input": mac_input.hex(), "anchor-mac": found.raw[224:].hex()}
        made.append(vector_file.Vector(fields, content, [], values))
    return made

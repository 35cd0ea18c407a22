"""Classes, colours and label maps of every data set."""

import numpy as np
import numpy.typing as npt

from fcn.data.labels import VOID, Labels

SCENES = Labels(
    ("sky", "ground", "road", "building", "tree", "car", "sign", "person"),
    (
        (70, 130, 180),
        (152, 200, 120),
        (128, 64, 128),
        (190, 150, 120),
        (60, 120, 40),
        (0, 0, 170),
        (235, 200, 0),
        (220, 20, 60),
    ),
)

SCENES_WITH_DECOYS = Labels((*SCENES.names, "decoy"), (*SCENES.palette, (150, 0, 200)))

SCENES_GEOMETRIC = Labels(("horizontal", "vertical", "sky"), ((128, 64, 128), (190, 150, 120), (70, 130, 180)))

CAMVID = Labels(
    (
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    ),
    (
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
    void=(11,),
)


# Names (the first synonym) and colours as SceneParse150 publishes them. Road and skyscraper share a colour.
_ADE20K = (
    "wall 787878, building b47878, sky 06e6e6, floor 503232, tree 04c803, ceiling 787850, road 8c8c8c, bed cc05ff, "
    "windowpane e6e6e6, grass 04fa07, cabinet e005ff, sidewalk ebff07, person 96053d, earth 787846, door 08ff33, "
    "table ff0652, mountain 8fff8c, plant ccff04, curtain ff3307, chair cc4603, car 0066c8, water 3de6fa, "
    "painting ff0633, sofa 0b66ff, shelf ff0747, house ff09e0, sea 0907e6, mirror dcdcdc, rug ff095c, field 7009ff, "
    "armchair 08ffd6, seat 07ffe0, fence ffb806, desk 0aff47, rock ff290a, wardrobe 07ffff, lamp e0ff08, "
    "bathtub 6608ff, railing ff3d06, cushion ffc207, base ff7a08, box 00ff14, column ff0829, signboard ff0599, "
    "chest of drawers 0633ff, counter eb0cff, sand a09614, sink 00a3ff, skyscraper 8c8c8c, fireplace fa0a0f, "
    "refrigerator 14ff00, grandstand 1fff00, path ff1f00, stairs ffe000, runway 99ff00, case 0000ff, "
    "pool table ff4700, pillow 00ebff, screen door 00adff, stairway 1f00ff, river 0bc8c8, bridge ff5200, "
    "bookcase 00fff5, blind 003dff, coffee table 00ff70, toilet 00ff85, flower ff0000, book ffa300, hill ff6600, "
    "bench c2ff00, countertop 008fff, stove 33ff00, palm 0052ff, kitchen island 00ff29, computer 00ffad, "
    "swivel chair 0a00ff, boat adff00, bar 00ff99, arcade machine ff5c00, hovel ff00ff, bus ff00f5, towel ff0066, "
    "light ffad00, truck ff0014, tower ffb8b8, chandelier 001fff, awning 00ff3d, streetlight 0047ff, booth ff00cc, "
    "television 00ffc2, airplane 00ff52, dirt track 000aff, apparel 0070ff, pole 3300ff, land 00c2ff, "
    "bannister 007aff, escalator 00ffa3, ottoman ff9900, bottle 00ff0a, buffet ff7000, poster 8fff00, stage 5200ff, "
    "van a3ff00, ship ffeb00, fountain 08b8aa, conveyer belt 8500ff, canopy 00ff5c, washer b800ff, plaything ff001f, "
    "swimming pool 00b8ff, stool 00d6ff, barrel ff0070, basket 5cff00, waterfall 00e0ff, tent 70e0ff, bag 46b8a0, "
    "minibike a300ff, cradle 9900ff, oven 47ff00, ball ff00a3, food ffcc00, step ff008f, tank 00ffeb, "
    "trade name 85ff00, microwave ff00eb, pot f500ff, animal ff007a, bicycle fff500, lake 0abed4, dishwasher d6ff00, "
    "screen 00ccff, blanket 1400ff, sculpture ffff00, hood 0099ff, sconce 0029ff, vase 00ffcc, traffic light 2900ff, "
    "tray 29ff00, ashcan ad00ff, fan 00f5ff, pier 4700ff, crt screen 7a00ff, plate 00ffb8, monitor 005cff, "
    "bulletin board b8ff00, shower 0085ff, radiator ffd600, glass 19c2c2, clock 66ff00, flag 5c00ff"
)
_ADE20K_NAMES, _ADE20K_COLOURS = zip(*(entry.rsplit(" ", 1) for entry in _ADE20K.split(", ")), strict=True)
_ADE20K_PALETTE = tuple((r, g, b) for r, g, b in map(bytes.fromhex, _ADE20K_COLOURS))
# The benchmark ignores code 0, pixels of none of the 150 classes. The 151-class coding makes it a class.
ADE20K = Labels(_ADE20K_NAMES, _ADE20K_PALETTE, (0,), tuple((code,) for code in range(1, 151)))
ADE20K151 = Labels(("other", *_ADE20K_NAMES), ((0, 0, 0), *_ADE20K_PALETTE))


def voc_colour(number: int) -> tuple[int, int, int]:
    """VOC's colour map: the bits of the class number go to red, green and blue in turn, highest bit first."""
    red, green, blue = (sum((number >> (3 * bit + k) & 1) << (7 - bit) for bit in range(8)) for k in range(3))
    return red, green, blue


# PASCAL-Context's 59 most frequent classes, in the published order, and their codes in its raw masks.
_CONTEXT59 = (
    "aeroplane 2, bicycle 23, bird 25, boat 31, bottle 34, bus 45, car 59, cat 65, chair 72, cow 98, table 397, "
    "dog 113, horse 207, motorbike 258, person 284, pottedplant 308, sheep 347, sofa 368, train 416, tvmonitor 427, "
    "bag 9, bed 18, bench 22, book 33, building 44, cabinet 46, ceiling 68, cloth 80, computer 85, cup 104, "
    "door 115, fence 144, floor 158, flower 159, food 162, grass 187, ground 189, keyboard 220, light 232, "
    "mountain 259, mouse 260, curtain 105, platform 296, sign 355, plate 295, road 324, rock 326, shelves 349, "
    "sidewalk 354, sky 360, snow 366, bedclothes 19, track 415, tree 420, truck 424, wall 440, water 445, "
    "window 454, wood 458"
)
CONTEXT59_CODES = {name: int(code) for name, code in (entry.split() for entry in _CONTEXT59.split(", "))}
CONTEXT_CODES = 459  # the raw masks hold 1..459, and 0 for unlabelled pixels
CONTEXT59 = Labels(tuple(CONTEXT59_CODES), tuple(voc_colour(number) for number in range(1, 60)))
# The classes of the reference's nets: the first is everything that is none of the 59.
CONTEXT60 = Labels(("background", *CONTEXT59.names), tuple(voc_colour(number) for number in range(60)))

VOC = Labels(
    (
        *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
        *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    ),
    tuple(voc_colour(number) for number in range(21)),
)

# Both in the order of the reference's classes.txt. Neither set defines colours; VOC's are used, from number 1 on.
NYUD = Labels(
    (
        *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture"),
        *("counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes"),
        *("ceiling", "books", "refridgerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard"),
        *("person", "night stand", "toilet", "sink", "lamp", "bathtub", "bag"),
        *("otherstructure", "otherfurniture", "otherprop"),
    ),
    tuple(voc_colour(number) for number in range(1, 41)),
)

SIFTFLOW = Labels(
    (
        *("awning", "balcony", "bird", "boat", "bridge", "building", "bus", "car", "cow", "crosswalk", "desert"),
        *("door", "fence", "field", "grass", "moon", "mountain", "person", "plant", "pole", "river", "road"),
        *("rock", "sand", "sea", "sidewalk", "sign", "sky", "staircase", "streetlight", "sun", "tree", "window"),
    ),
    tuple(voc_colour(number) for number in range(1, 34)),
)
# In the order of the reference's classes.txt, with the colours of the scenes' geometric classes.
SIFTFLOW_GEOMETRIC = Labels(("sky", "horizontal", "vertical"), ((70, 130, 180), (128, 64, 128), (190, 150, 120)))


def _nyud_labels() -> npt.NDArray[np.uint8]:
    """(895,) uint8: the class of each of the 894 raw labels of NYUDv2, which count from 1.

    source   Gupta et al., CVPR 2013, classMapping40.mat
    """
    named = (
        *(21, 11, 3, 157, 5, 83, 19, 28, 59, 88, 64, 7, 80, 36, 42, 89, 169, 119, 122, 143, 141, 4, 85, 17, 172, 15),
        *(135, 123, 26, 45, 331, 158, 124, 24, 144, 136, 55),
    )
    structures = (
        *(8, 25, 33, 38, 51, 53, 57, 58, 62, 65, 79, 94, 104, 112, 134, 153, 215, 216, 223, 225, 238, 241, 242, 256),
        *(295, 301, 339, 342, 354, 363, 372, 380, 392, 408, 412, 453, 456, 463, 477, 497, 541, 550, 553, 567, 573),
        *(582, 591, 609, 612, 615, 642, 645, 657, 658, 659, 663, 667, 668, 686, 700, 702, 777, 778, 782, 850, 861),
        *(868, 874),
    )
    furniture = (
        *(12, 43, 48, 50, 87, 106, 111, 161, 163, 174, 183, 204, 214, 219, 221, 224, 236, 262, 278, 291, 298, 313),
        *(343, 344, 356, 359, 373, 393, 401, 414, 418, 419, 430, 443, 444, 447, 448, 457, 458, 460, 462, 475, 479),
        *(485, 486, 493, 494, 498, 499, 509, 510, 515, 521, 524, 540, 549, 551, 554, 556, 558, 576, 580, 608, 625),
        *(703, 734, 770, 772, 797, 800, 803, 804, 813, 814, 815, 820, 829, 835, 858, 863, 882, 892),
    )
    table = np.full(895, NYUD.names.index("otherprop"), np.uint8)  # the default
    table[0] = VOID
    table[list(named)] = np.arange(len(named))
    table[list(structures)] = NYUD.names.index("otherstructure")
    table[list(furniture)] = NYUD.names.index("otherfurniture")
    return table


NYUD_LABELS = _nyud_labels()
# CCF BDCI 2017's satellite images were labelled twice. The final round renumbered the classes; both maps give the
# same class numbers here.
_BDCI = ("other", "vegetation", "building", "water", "road")
_BDCI_PALETTE = ((40, 40, 40), (70, 150, 60), (200, 80, 60), (60, 110, 200), (230, 210, 120))  # our choice
BDCI2017_FINAL = Labels(_BDCI, _BDCI_PALETTE, (), codes=((0,), (1,), (2,), (3,), (4,)))
BDCI2017_PRELIMINARY = Labels(_BDCI, _BDCI_PALETTE, (), codes=((0,), (1,), (3,), (4,), (2,)))

# The label maps that `data.folder.classes` may name.
MAPS: dict[str, Labels] = {
    "bdci2017-final": BDCI2017_FINAL,
    "bdci2017-preliminary": BDCI2017_PRELIMINARY,
    "camvid": CAMVID,
    "voc": VOC,
}

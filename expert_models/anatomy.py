"""Organs that an added expert may outline: SNOMED CT value -> meaning, as pydicom lists DICOM's contexts (PS3.16).

An organ is outlined and measured and is never a diagnosis; this table is how every part of the program can tell. More
can be added once their codes were looked up. Names that hold a side ("left atrium") are left out on purpose: a side is
the finding's, and is checked.
"""

from __future__ import annotations

ORGANS = {
    "78961009": "Spleen",
    "10200004": "Liver",
    "64033007": "Kidney",
    "15776009": "Pancreas",
    "28231008": "Gallbladder",
    "69695003": "Stomach",
    "38848004": "Duodenum",
    "30315005": "Small intestine",
    "71854001": "Colon",
    "34402009": "Rectum",
    "32849002": "Esophagus",
    "89837001": "Bladder",
    "23451007": "Adrenal gland",
    "41216001": "Prostate",
    "35039007": "Uterus",
    "69748006": "Thyroid",
    "9875009": "Thymus",
    "44567001": "Trachea",
    "110726009": "Trachea and bronchus",
    "5798000": "Diaphragm",
    "12738006": "Brain",
    "2748008": "Spinal cord",
    "15825003": "Aorta",
    "81040000": "Pulmonary artery",
    "122972007": "Pulmonary vein",
    "48345005": "Superior vena cava",
    "64131007": "Inferior vena cava",
    "32764006": "Portal vein",
    "35819009": "Splenic vein",
    "73634005": "Common iliac artery",
    "46027005": "Common iliac vein",
    "113197003": "Rib",
    "56873002": "Sternum",
    "51299004": "Clavicle",
    "79601000": "Scapula",
    "85050009": "Humerus",
    "71341001": "Femur",
    "22356005": "Ilium",
    "54735007": "Sacrum",
    "51282000": "Vertebra",
    "89546000": "Skull",
    "91609006": "Mandible",
    "44947003": "Erector spinae muscle",
    "50016007": "Costal Cartilage",
}

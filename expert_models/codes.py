"""The coded concepts that findings, results and the literature share.

SNOMED CT codes are those of DICOM's own context groups (PS3.16, as listed by pydicom) where DICOM has the concept;
the others were looked up in public terminology extracts, see docs/decisions.md. Where no terminology we could check
has the concept, the code is ours: scheme 99WETREAD, as PS3.16 section 8.2 provides for private schemes.
"""

from __future__ import annotations

from expert_models.anatomy import ORGANS
from expert_models.finding import Code

# Anatomy
LUNG = Code("39607008", "SCT", "Lung")
HEART = Code("80891009", "SCT", "Heart")
UPPER_LOBE = Code("45653009", "SCT", "Upper lobe of lung")
MIDDLE_LOBE = Code("72481006", "SCT", "Middle lobe of right lung")
LOWER_LOBE = Code("90572001", "SCT", "Lower lobe of lung")
AORTA = Code("15825003", "SCT", "Aorta")
PLEURA = Code("3120008", "SCT", "Pleural structure")
CHEST = Code("816094009", "SCT", "Chest")
AIRWAYS = Code("110726009", "SCT", "Trachea and bronchus")
CLAVICLE = Code("51299004", "SCT", "Clavicle")
DIAPHRAGM = Code("5798000", "SCT", "Diaphragm")

# Findings
CARDIOMEGALY = Code("8186001", "SCT", "Cardiomegaly")
LUNG_NODULE = Code("786838002", "SCT", "Nodule of lung")
LUNG_MASS = Code("RID39056", "RADLEX", "Lung mass")
PLEURAL_EFFUSION = Code("60046008", "SCT", "Pleural effusion")
PNEUMOTHORAX = Code("36118008", "SCT", "Pneumothorax")
CONSOLIDATION = Code("95436008", "SCT", "Lung consolidation")
LUNG_OPACITY = Code("112001", "DCM", "Opacity")  # of the lung: CID 6104; no terminology at hand has it with its site
ATELECTASIS = Code("46621007", "SCT", "Atelectasis")
PULMONARY_EDEMA = Code("19242006", "SCT", "Pulmonary edema")
EMPHYSEMA = Code("87433001", "SCT", "Pulmonary emphysema")

# Attributes of a nodule. RadLex as two public lung nodule models have it (openimagingdata/CDEStaging, and the solidity
# value set of Philips' AIR guide): RID46010 with RID5741, RID46011, RID46016. The rest is as pydicom lists it.
ATTENUATION_TYPE = Code("RID46010", "RADLEX", "Solidness descriptor")
SOLID = Code("RID5741", "RADLEX", "Solid")
PART_SOLID = Code("RID46011", "RADLEX", "Partially solid")
GROUND_GLASS = Code("RID46016", "RADLEX", "Non-solid")
BORDER_SHAPE = Code("112015", "DCM", "Border shape")
SPICULATED = Code("112136", "DCM", "Spiculated")
LOBULATED = Code("112135", "DCM", "Lobulated")
CALCIFICATION = Code("112030", "DCM", "Calcification Descriptor")
CALCIFIED = Code("237897009", "SCT", "Calcified")

# What the experts on the picture itself speak of; the kinds of unfit pictures stand in the card of cxr-input
PICTURE_FITNESS = Code("picture-fitness", "99WETREAD", "Fitness of the picture for the experts")

# Measurements
CARDIOTHORACIC_RATIO = Code("cardiothoracic-ratio", "99WETREAD", "Cardiothoracic ratio")
CARDIAC_DIAMETER = Code("cardiac-diameter", "99WETREAD", "Transverse cardiac diameter")
THORACIC_DIAMETER = Code("thoracic-diameter", "99WETREAD", "Internal transverse thoracic diameter")
LUNG_AREA_RATIO = Code("lung-area-ratio", "99WETREAD", "Area relative to the other lung")
LEFTWARD_SHIFT = Code("leftward-tracheal-shift", "99WETREAD", "Leftward tracheal shift")
RIGHTWARD_SHIFT = Code("rightward-tracheal-shift", "99WETREAD", "Rightward tracheal shift")
VOLUME = Code("118565006", "SCT", "Volume")
LONG_AXIS = Code("103339001", "SCT", "Long axis")
SHORT_AXIS = Code("103340004", "SCT", "Short axis")
IMAGED_VOLUME = Code("imaged-volume", "99WETREAD", "Volume of the part that was imaged")
MEAN_ATTENUATION = Code("112181", "DCM", "Mean Attenuation Coefficient")
PROBABILITY = Code("122157", "DCM", "Probability")
VOLUME_DOUBLING_TIME = Code("volume-doubling-time", "99WETREAD", "Volume doubling time")
SOLID_LONG_AXIS = Code("solid-long-axis", "99WETREAD", "Long axis of the solid component")
EFFUSION_DEPTH = Code("effusion-depth", "99WETREAD", "Depth at the midclavicular line")
SHARE_OF_LUNG = Code("share-of-lung", "99WETREAD", "Share of the lung")
EMPHYSEMA_INDEX = Code("laa-950", "99WETREAD", "Low attenuation area (LAA-950)")
ASCENDING_AORTA = Code("18012-5", "LN", "Ascending Aortic Diameter")
DESCENDING_AORTA = Code("18013-3", "LN", "Descending Aortic Diameter")

# Units (UCUM)
MILLIMETER = Code("mm", "UCUM", "mm")
MILLILITER = Code("mL", "UCUM", "mL")
DAY = Code("d", "UCUM", "day")
RATIO = Code("{ratio}", "UCUM", "ratio")
HOUNSFIELD_UNIT = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
PERCENT = Code("%", "UCUM", "%")
PIXEL = Code("{pixels}", "UCUM", "pixels")  # lengths on a picture whose spacing is unknown

# Concepts that are organs: present, measured, never a diagnosis
ANATOMY = frozenset({LUNG, HEART, *(Code(value, "SCT", meaning) for value, meaning in ORGANS.items())})

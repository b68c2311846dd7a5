"""What stands in for an absent modality: `model: {absent: {name: ...}}`, one file each."""

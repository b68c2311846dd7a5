"""How representations become one: `model: {fusion: {name: ...}}`, one file each."""

"""The tables that an approved user downloads from ADNI, joined by subject and visit; none of them comes with us."""

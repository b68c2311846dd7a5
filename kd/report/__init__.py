"""Reports: from the records of a finished run to tables, figures, Markdown and one self-contained page.

Nothing here loads a model or imports torch. `kd.report.page.write_report` is the way in.
"""

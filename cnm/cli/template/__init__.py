"""Go templates as Docker's `--format` takes them: `{{.Name}}`, `{{range .IPAM.Config}}{{.Subnet}}{{end}}`.

Values are what JSON gives (str, int, float, bool, None, list, dict) and `Struct`, with Go's fixed fields. Nothing
here is loaded before a format is asked for.
"""

from cnm.cli.template.execute import Template
from cnm.cli.template.faults import TemplateError
from cnm.cli.template.values import NIL, Moment, Struct, StructMap

__all__ = ["NIL", "Moment", "Struct", "StructMap", "Template", "TemplateError"]

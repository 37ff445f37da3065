"""Clean Up Runs: what Sample and Dub Video left under the output folder, shown first and deleted only when asked."""

from __future__ import annotations

import time
from pathlib import Path

from comfy_api.latest import io, ui

from .comfy.page.stop_requests import STOP_REQUESTS
from .jobs.old_runs import delete_runs, find_runs, table
from .sockets.schema import schema


class MCDMCleanUpRuns(io.ComfyNode):
    """Delete old runs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "MCDMCleanUpRuns",
            "Clean Up Runs",
            description="Lists the clips that old runs of Sample and Dub Video left under output, and deletes them if "
            "asked.",
            search_aliases=["delete clips", "disk space"],
            is_output_node=True,
            not_idempotent=True,
            inputs=[
                io.Float.Input(
                    "older_than_days",
                    default=7.0,
                    min=0.0,
                    max=3650.0,
                    step=1.0,
                    tooltip="Only runs that nothing has been written to for so long.",
                ),
                io.Combo.Input(
                    "action",
                    options=["only show", "delete"],
                    default="only show",
                    tooltip="only show: lists what delete would remove for good. Save Video's files are never touched.",
                ),
            ],
            outputs=[io.String.Output("report", display_name="report", tooltip="What was found or deleted.")],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> float:
        """What lies on disk changes without this node's inputs."""
        return time.time()

    @classmethod
    def execute(cls, older_than_days: float, action: str) -> io.NodeOutput:
        import folder_paths

        output = Path(folder_paths.get_output_directory())
        runs = [run for run in find_runs(output, time.time()) if run.days >= older_than_days]
        stay: list[str] = []
        if action == "delete":
            runs, stay = delete_runs(runs)
            STOP_REQUESTS.stops += bool(runs)  # cached results name deleted files
        heading = "Deleted" if action == "delete" else "Would be deleted"
        report = "\n".join([table(runs, output, heading), *stay])
        return io.NodeOutput(report, ui=ui.PreviewText(report))

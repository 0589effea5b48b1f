"""Put the recorded runs into the wheel: a notebook alone, as in Colab, finds them there."""

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RecordedRuns(BuildHookInterface):
    def initialize(self, version, build_data):
        # An editable install reads them in the checkout; copies would leave a folder without code.
        if version != "editable":
            build_data["force_include"]["book/results"] = "resnet_lib/results"

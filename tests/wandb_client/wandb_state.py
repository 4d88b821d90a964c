"""What a W&B server keeps, and how the client's GraphQL operations change it.

Only what the client of the locked version asks is here; an operation that is not known is an error and is noted in
`State.unknown`, which every test holds to be empty.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import yaml

ENTITY = "loopback"
Answer = dict[str, Any]


class GraphQLError(Exception):
    """What a server refuses, in its own words."""


@dataclass
class Run:
    """One run, as the server knows it."""

    project: str
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    display_name: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    program: str | None = None
    sweep: str | None = None
    upserts: int = 0
    lines: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))  # file → number → line
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None
    complete: bool = False

    @property
    def history(self) -> list[dict[str, Any]]:
        """The logged rows in order.

        Raises:
            AssertionError: one is missing.
        """
        rows = self.lines["wandb-history.jsonl"]
        assert sorted(rows) == list(range(len(rows))), f"rows are missing: {sorted(rows)}"
        return [json.loads(rows[number]) for number in range(len(rows))]

    def curve(self, name: str) -> list[Any]:
        """The values of one metric."""
        return [row[name] for row in self.history if name in row]

    @property
    def summary(self) -> dict[str, Any]:
        rows = self.lines["wandb-summary.json"]
        return json.loads(rows[max(rows)]) if rows else {}

    @property
    def values(self) -> dict[str, Any]:
        """The config without its wrapping."""
        return {name: entry["value"] for name, entry in self.config.items() if name != "_wandb"}

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """What `define_metric` has sent, by number of the field: 1 name, 2 its pattern, 5 its step, 7 its summary."""
        return list(self.config["_wandb"]["value"].get("m", []))


@dataclass
class Artifact:
    """One version of an artifact."""

    id: str
    type: str
    name: str
    run: str
    digest: str
    client_id: str
    aliases: list[str]
    metadata: dict[str, Any]
    state: str = "PENDING"
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)


@dataclass
class Sweep:
    """A grid whose points are given out one by one."""

    name: str
    config: dict[str, Any]
    points: list[dict[str, Any]]
    given: int = 0
    state: str = "RUNNING"


@dataclass
class State:
    """All of it. `base` is the server's address, which uploads go to."""

    base: str = ""
    runs: dict[str, Run] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    charts: dict[str, str] = field(default_factory=dict)  # entity/name → Vega-Lite
    operations: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    entities: set[str] = field(default_factory=lambda: {ENTITY})
    projects: set[str] = field(default_factory=set)

    def answer(self, request: dict[str, Any]) -> Answer:
        """Carry out one GraphQL request."""
        found = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
        name = found.group(1) if found else request["query"]
        self.operations.append(name)
        operation = getattr(self, f"on_{name}", None)
        if operation is None:
            self.unknown.append(name)
            raise GraphQLError(f"this server does not know {name}")
        answer: Answer = operation(**(request.get("variables") or {}))
        return answer

    def store(self, address: str, content: bytes) -> None:
        """Keep what is uploaded to an address that this server has given."""
        kind, owner, name = address.split("/", 2)
        if kind == "run":
            self.runs[owner].files[name] = content
        elif name == "manifest":
            self.artifacts[owner].manifest = json.loads(content)
        else:
            self.artifacts[owner].files[name.removeprefix("file/")] = content

    def stream(self, name: str, body: dict[str, Any]) -> None:
        """Take what a run's file stream brings; lines that come twice overwrite themselves."""
        run = self.runs[name]
        for file, chunk in (body.get("files") or {}).items():
            for number, line in enumerate(chunk["content"], start=chunk["offset"]):
                run.lines[file][number] = line
        if body.get("complete"):
            run.complete = True
            run.exit_code = body["exitcode"]

    # who is there

    def on_Viewer(self) -> Answer:  # noqa: N802
        return {"viewer": {**_VIEWER, "teams": {"edges": [{"node": {"name": ENTITY}}]}}}

    def on_ServerFeaturesQuery(self) -> Answer:  # noqa: N802
        return {"serverInfo": {"features": []}}

    def on_OrganizationCoreWeaveOrganizationID(self, entityName: str) -> Answer:  # noqa: N802
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def on_GetDefaultEntity(self) -> Answer:  # noqa: N802
        return {"viewer": {"id": "user", "entity": ENTITY}}

    def on_GetProjects(self, **_: Any) -> Answer:  # noqa: N802
        names = sorted({run.project for run in self.runs.values()} | self.projects)
        facts = {
            "__typename": "Project",
            "entityName": ENTITY,
            "createdAt": "2026-01-01T00:00:00",
            "isBenchmark": False,
            "user": None,
        }
        edges = [{"node": {**facts, "__typename": "Project", "id": name, "name": name}} for name in names]
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"pageInfo": page, "edges": edges}}

    def on_CreateProject(self, input: dict[str, Any]) -> Answer:  # noqa: N802
        self.projects.add(input["name"])
        project = {"id": input["name"], "name": input["name"], "entityName": ENTITY}
        return {"result": {"project": project, "model": project, "inserted": True}}

    # runs

    def on_Runs(self, project: str, filters: str, **_: Any) -> Answer:  # noqa: N802
        wanted = json.loads(filters).get("name", {}).get("$in")
        runs = [run for run in self.runs.values() if run.project == project]
        if not runs:
            return {"project": None}
        found = [run for run in runs if wanted is None or run.name in wanted]
        edges = [{"node": self._listed(run), "cursor": run.name} for run in found]
        page = {"endCursor": None, "hasNextPage": False}
        count = {"internalId": "1", "runCount": len(found), "readOnly": False}
        return {"project": {**count, "runs": {"edges": edges, "pageInfo": page}}}

    def _listed(self, run: Run) -> Answer:
        state = {None: "crashed", 0: "finished"}.get(run.exit_code, "failed")
        facts = {
            "group": run.group,
            "jobType": run.job_type,
            "tags": run.tags,
            "summaryMetrics": json.dumps(run.summary),
        }
        return {**_LISTED, **self._bucket(run), **facts, "projectId": "1", "state": state}

    def on_UpsertBucket(self, **sent: Any) -> Answer:  # noqa: N802
        entity, project = sent.get("entity") or ENTITY, sent.get("project") or "uncategorized"
        if entity not in self.entities:
            raise GraphQLError(f"entity {entity} not found during upsertBucket")
        by_id = {run.name: run for run in self.runs.values()}
        name = sent.get("name") or str(sent["id"]).removeprefix("id-")
        inserted = name not in by_id
        run = self.runs.setdefault(name, Run(project, name))
        run.upserts += 1
        if sent.get("config"):
            run.config = json.loads(sent["config"])
        for ours, theirs in _UPSERTED.items():
            if sent.get(theirs) is not None:
                setattr(run, ours, sent[theirs])
        if sent.get("summaryMetrics"):
            run.lines["wandb-summary.json"][0] = sent["summaryMetrics"]
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": inserted}}

    def on_RunResumeStatus(self, name: str, **_: Any) -> Answer:  # noqa: N802
        run = self.runs.get(name)
        project = {"id": "project", "name": run.project if run else "", "entity": {"id": ENTITY, "name": ENTITY}}
        if run is None:
            return {"model": {**project, "bucket": None}}
        history, events = run.lines["wandb-history.jsonl"], run.lines["wandb-events.jsonl"]
        bucket = {
            **self._bucket(run),
            "summaryMetrics": json.dumps(run.summary),
            "logLineCount": len(run.lines["output.log"]),
            "eventsLineCount": len(events),
            "historyTail": json.dumps([history[max(history)]] if history else []),
            "eventsTail": json.dumps([events[max(events)]] if events else []),
            "tags": run.tags,
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}) if "_wandb" in run.config else None,
        }
        return {"model": {**project, "bucket": bucket}}

    def _bucket(self, run: Run) -> Answer:
        entity = {"id": ENTITY, "name": ENTITY}
        return {
            "id": f"id-{run.name}",
            "name": run.name,
            "displayName": run.display_name or run.name,
            "description": None,
            "config": json.dumps(run.config),
            "sweepName": run.sweep,
            "project": {"id": "project", "name": run.project, "entity": entity},
            "historyLineCount": len(run.lines["wandb-history.jsonl"]),
        }

    def on_CreateRunFiles(self, run: str, files: list[str], **_: Any) -> Answer:  # noqa: N802
        places = [{"name": name, "uploadUrl": f"{self.base}/storage/run/{run}/{name}"} for name in files]
        return {"createRunFiles": {"runID": f"id-{run}", "uploadHeaders": [], "files": places}}

    def on_MarkRunFilesUploaded(self, **_: Any) -> Answer:  # noqa: N802
        return {"markRunFilesUploaded": {"success": True}}

    # artifacts

    def on_XXHashDigestsEnabled(self, entityName: str) -> Answer:  # noqa: N802
        return {"entity": {"xxhashDigestsEnabled": False}}

    def on_ArtifactType(self, name: str, **_: Any) -> Answer:  # noqa: N802
        found = [artifact for artifact in self.artifacts.values() if artifact.name == name.partition(":")[0]]
        artifact = {"artifactType": {"name": found[0].type}} if found else None
        return {"project": {"artifact": artifact}}

    def on_CreateArtifact(self, input: dict[str, Any]) -> Answer:  # noqa: N802
        collection = input["artifactCollectionName"]
        versions = [artifact for artifact in self.artifacts.values() if artifact.name == collection]
        same = [artifact for artifact in versions if artifact.digest == input["digest"]]
        aliases = [alias["alias"] for alias in input.get("aliases") or []]
        for artifact in versions:
            artifact.aliases = [alias for alias in artifact.aliases if alias not in aliases]
        if same:
            same[0].aliases += aliases
            created = same[0]
        else:
            created = Artifact(
                f"artifact{len(self.artifacts)}",
                input["artifactTypeName"],
                collection,
                input.get("runName") or "",
                input["digest"],
                input.get("clientID") or "",
                aliases,
                json.loads(input.get("metadata") or "{}"),
            )
            self.artifacts[created.id] = created
        latest = {"id": versions[-1].id, "versionIndex": len(versions) - 1} if versions else None
        sequence = {"id": collection, "latestArtifact": latest}
        return {
            "createArtifact": {"artifact": {"id": created.id, "state": created.state, "artifactSequence": sequence}}
        }

    def on_CreateArtifactManifest(self, artifactID: str, **_: Any) -> Answer:  # noqa: N802
        return {"createArtifactManifest": {"artifactManifest": self._manifest(artifactID)}}

    def on_UpdateArtifactManifest(self, artifactManifestID: str, **_: Any) -> Answer:  # noqa: N802
        return {
            "updateArtifactManifest": {"artifactManifest": self._manifest(artifactManifestID.removeprefix("manifest-"))}
        }

    def _manifest(self, artifact: str) -> Answer:
        address = f"{self.base}/storage/artifact/{artifact}/manifest"
        return {
            "id": f"manifest-{artifact}",
            "file": {"id": f"file-{artifact}", "uploadUrl": address, "uploadHeaders": []},
        }

    def on_CreateArtifactFiles(self, input: dict[str, Any]) -> Answer:  # noqa: N802
        nodes = []
        for file in input["artifactFiles"]:
            owner, name = file["artifactID"], file["name"]
            nodes.append(
                {
                    "storagePath": f"{owner}/{name}",
                    "uploadUrl": f"{self.base}/storage/artifact/{owner}/file/{name}",
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": owner},
                }
            )
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def on_CommitArtifact(self, artifactID: str) -> Answer:  # noqa: N802
        self.artifacts[artifactID].state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifactID, "digest": self.artifacts[artifactID].digest}}}

    def on_UseArtifact(self, input: dict[str, Any]) -> Answer:  # noqa: N802
        return {"useArtifact": {"artifact": {"id": input["artifactID"]}}}

    def on_ClientIDMapping(self, clientID: str) -> Answer:  # noqa: N802
        found = [artifact.id for artifact in self.artifacts.values() if artifact.client_id == clientID]
        return {"clientIDMapping": {"serverID": found[0]} if found else None}

    # sweeps

    def on_UpsertSweep(self, **sent: Any) -> Answer:  # noqa: N802
        if sent.get("id"):
            sweep = self.sweeps[sent["id"]]
            sweep.state = sent.get("state") or sweep.state
        else:
            config = yaml.safe_load(sent["config"])
            sweep = Sweep(f"sweep{len(self.sweeps)}", config, _grid(config["parameters"]))
            self.sweeps[sweep.name] = sweep
        project = {"id": "project", "name": sent["projectName"], "entity": {"id": ENTITY, "name": ENTITY}}
        return {"upsertSweep": {"sweep": {"name": sweep.name, "project": project}, "configValidationWarnings": []}}

    def on_SweepWithRuns(self, sweep: str, **_: Any) -> Answer:  # noqa: N802
        found = self.sweeps[sweep]
        facts = {"id": sweep, "name": sweep, "method": "grid", "state": found.state, "config": yaml.dump(found.config)}
        return {"project": {"sweep": {**_SWEEP, **facts}}}

    def on_GetSweepState(self, sweep: str, **_: Any) -> Answer:  # noqa: N802
        return {"project": {"sweep": {"state": self.sweeps[sweep].state}}}

    def on_CreateAgent(self, sweep: str, **_: Any) -> Answer:  # noqa: N802
        return {"createAgent": {"agent": {"id": f"agent-{sweep}"}}}

    def on_Heartbeat(self, id: str, runState: str, **_: Any) -> Answer:  # noqa: N802
        sweep = self.sweeps[id.removeprefix("agent-")]
        commands: list[Answer] = []
        if json.loads(runState):
            pass  # one run at a time
        elif sweep.given < len(sweep.points):
            point = sweep.points[sweep.given]
            run = f"{sweep.name}-run{sweep.given}"
            sweep.given += 1
            arguments = {name: {"value": value} for name, value in point.items()}
            commands = [{"type": "run", "run_id": run, "program": sweep.config.get("program"), "args": arguments}]
        else:
            sweep.state = "FINISHED"
            commands = [{"type": "exit"}]
        return {"agentHeartbeat": {"agent": {"id": id}, "commands": json.dumps(commands)}}

    # workspaces and reports

    def on_ProjectInternalId(self, projectName: str, entityName: str) -> Answer:  # noqa: N802
        there = projectName in self.projects | {run.project for run in self.runs.values()}
        return {"project": {"id": f"{entityName}/{projectName}", "internalId": "1"} if there else None}

    def on_UpsertView2(self, **sent: Any) -> Answer:  # noqa: N802
        return self.on_upsertView(**sent)

    def on_upsertView(self, **sent: Any) -> Answer:  # noqa: N802
        key = sent.get("id") or f"view{len(self.views)}"
        inserted = key not in self.views
        self.views[key] = {**sent, "spec": json.loads(sent["spec"])}
        view = {
            **{name: sent.get(name) for name in ("type", "name", "displayName", "description", "spec")},
            "id": key,
            "project": {"id": "project", "name": sent["projectName"], "entityName": sent["entityName"]},
            "updatedAt": "2026-01-01T00:00:00",
        }
        return {"upsertView": {"view": view, "inserted": inserted}}

    def on_CreateCustomChart(self, entity: str, chartName: str, spec: str, **_: Any) -> Answer:  # noqa: N802
        chart = f"{entity}/{chartName}"
        if chart in self.charts:
            raise GraphQLError(f"a chart {chart} exists already")
        self.charts[chart] = spec
        return {"createCustomChart": {"chart": {"id": chart}}}


def _grid(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Every combination, the last parameter fastest."""
    points: list[dict[str, Any]] = [{}]
    for name, choice in parameters.items():
        values = choice["values"] if "values" in choice else [choice["value"]]
        points = [{**point, name: value} for point in points for value in values]
    return points


_VIEWER = {"id": "user", "entity": ENTITY, "username": ENTITY, "email": "nobody@localhost", "flags": "{}"}
_UPSERTED = {
    "display_name": "displayName",
    "group": "groupName",
    "job_type": "jobType",
    "tags": "tags",
    "program": "program",
    "sweep": "sweep",
}
_LISTED = {
    "systemMetrics": None,
    "historyKeys": None,
    "commit": None,
    "readOnly": False,
    "createdAt": "2026-01-01T00:00:00",
    "heartbeatAt": "2026-01-01T00:00:00",
    "notes": None,
    "user": {"name": ENTITY, "username": ENTITY},
}
_SWEEP = {
    "description": None,
    "createdAt": None,
    "heartbeatAt": None,
    "updatedAt": None,
    "earlyStopJobRunning": False,
    "bestLoss": None,
    "controller": None,
    "scheduler": None,
    "runs": {"edges": []},
}

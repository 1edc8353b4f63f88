#!/usr/bin/env bash
# What action.yml runs: one check, as annotations, as SARIF, as JUnit XML if asked for, and in the job's summary.
# The inputs are in JR_*; the exit code is that of jr-onnx check, after all reports are written.
set -euo pipefail

arguments=()
models=()
[[ -n ${JR_ORIGINAL:-} ]] && models+=("$JR_ORIGINAL")
models+=("${JR_HARDENED:?the hardened model is missing}")
[[ -n ${JR_JUMP:-} ]] && arguments+=(--jump "$JR_JUMP")
[[ -n ${JR_POLICY:-} ]] && arguments+=(--policy "$JR_POLICY")
[[ -n ${JR_DATA:-} ]] && arguments+=(--data "$JR_DATA")
[[ -n ${JR_FAIL_ON:-} ]] && arguments+=(--fail-on "$JR_FAIL_ON")
[[ -n ${JR_SARIF:-} ]] && arguments+=(--format sarif --output "$JR_SARIF")
[[ -n ${JR_JUNIT:-} ]] && arguments+=(--format junit --output "$JR_JUNIT")
read -r -d '' -a more <<<"${JR_ARGUMENTS:-}" || true # all lines; at the end of the text it returns 1

summary=$(mktemp)
trap 'rm -f "$summary"' EXIT
code=0
arguments+=(--format text --output "$summary" --format github ${more[@]+"${more[@]}"})
jr-onnx check "${arguments[@]}" -- "${models[@]}" || code=$?
if [[ -n ${GITHUB_STEP_SUMMARY:-} && -s $summary ]]; then
  { echo '```'; cat "$summary"; echo '```'; } >>"$GITHUB_STEP_SUMMARY"
fi
exit "$code"

#!/usr/bin/env bash
# What action.yml runs: one check, as annotations, as SARIF, as JUnit XML if asked for, and in the job's summary.
# The inputs are in JR_*; the exit code is that of jr-onnx check, after all reports are written.
set -euo pipefail

arguments=()
[[ -n ${JR_ORIGINAL:-} ]] && arguments+=("$JR_ORIGINAL")
arguments+=("${JR_HARDENED:?the hardened model is missing}")
[[ -n ${JR_JUMP:-} ]] && arguments+=(--jump "$JR_JUMP")
[[ -n ${JR_POLICY:-} ]] && arguments+=(--policy "$JR_POLICY")
[[ -n ${JR_DATA:-} ]] && arguments+=(--data "$JR_DATA")
[[ -n ${JR_FAIL_ON:-} ]] && arguments+=(--fail-on "$JR_FAIL_ON")
[[ -n ${JR_SARIF:-} ]] && arguments+=(--format sarif --output "$JR_SARIF")
[[ -n ${JR_JUNIT:-} ]] && arguments+=(--format junit --output "$JR_JUNIT")
read -ra more <<<"${JR_ARGUMENTS:-}"

summary=$(mktemp)
trap 'rm -f "$summary"' EXIT
code=0
jr-onnx check "${arguments[@]}" --format text --output "$summary" --format github ${more[@]+"${more[@]}"} || code=$?
if [[ -n ${GITHUB_STEP_SUMMARY:-} && -s $summary ]]; then
  { echo '```'; cat "$summary"; echo '```'; } >>"$GITHUB_STEP_SUMMARY"
fi
exit "$code"

{{- define "tessera.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tessera.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tessera.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "tessera.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "tessera.image" -}}
{{- if .Values.image.digest }}{{ printf "%s@%s" .Values.image.repository .Values.image.digest }}{{ else }}{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}{{ end }}
{{- end }}

{{- /* The key of a ConfigMap has no slash: of `tests/a.toml` it is `tests.a.toml`. */}}
{{- define "tessera.policyKey" -}}
{{ . | replace "/" "." }}
{{- end }}

{{- /* What the authority and the maintenance job have in common. */}}
{{- define "tessera.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "tessera.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* Where the database is. */}}
{{- define "tessera.environment" -}}
{{- if .Values.postgres.secret }}
env:
  - name: TESSERA_POSTGRES_URL
    valueFrom:
      secretKeyRef:
        name: {{ .Values.postgres.secret }}
        key: {{ .Values.postgres.key }}
{{- end }}
{{- end }}

{{- define "tessera.mounts" -}}
- name: data
  mountPath: /data
- name: configuration
  mountPath: /etc/tessera
  readOnly: true
- name: policies
  mountPath: /policies
  readOnly: true
- name: server-key
  mountPath: /run/secrets/tessera
  readOnly: true
{{- if .Values.tls.secret }}
- name: tls
  mountPath: /run/secrets/tls
  readOnly: true
{{- end }}
{{- end }}

{{- define "tessera.volumes" -}}
- name: data
  {{- if .Values.postgres.secret }}
  emptyDir: {}
  {{- else }}
  persistentVolumeClaim:
    claimName: {{ .Values.persistence.existingClaim | default (include "tessera.name" .) }}
  {{- end }}
- name: configuration
  configMap:
    name: {{ include "tessera.name" . }}
- name: policies
  configMap:
    {{- if .Values.policy.configMap }}
    name: {{ .Values.policy.configMap }}
    {{- with .Values.policy.items }}
    items:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- else }}
    {{- if not .Values.policy.files }}{{ fail "policy.files or policy.configMap must be set" }}{{ end }}
    name: {{ include "tessera.name" . }}-policies
    items:
      {{- range $name, $text := .Values.policy.files }}
      - key: {{ include "tessera.policyKey" $name | quote }}
        path: {{ $name | quote }}
      {{- end }}
    {{- end }}
- name: server-key
  secret:
    secretName: {{ required "serverKey.secret must be set" .Values.serverKey.secret }}
    defaultMode: 0440
    items:
      - key: {{ .Values.serverKey.key }}
        path: server.key
{{- if .Values.tls.secret }}
- name: tls
  secret:
    secretName: {{ .Values.tls.secret }}
    defaultMode: 0440
{{- end }}
{{- end }}

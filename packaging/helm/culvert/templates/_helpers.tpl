{{- define "culvert.fullname" -}}
{{- if contains "culvert" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-culvert" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "culvert.selector" -}}
app.kubernetes.io/name: culvert
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "culvert.labels" -}}
{{ include "culvert.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end -}}

{{- define "culvert.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "culvert.secret" -}}
{{- if .Values.existingSecret.name -}}
{{ .Values.existingSecret.name }}
{{- else if .Values.token -}}
{{ include "culvert.fullname" . }}-token
{{- else -}}
{{- fail "Give the tunnel's token: --set existingSecret.name=NAME, or --set token=TOKEN" -}}
{{- end -}}
{{- end -}}
